"""Claims about training readouts by the recipe; the oracles are rules worked out by hand and simulated truth."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from mousev1.fit.early_stopping import EarlyStopping, Verdict
from mousev1.fit.readout_training import FeatureTrials, ScanTrials, train_readouts
from mousev1.fit.settings import SGDSettings, TrainingSettings
from mousev1.readout.gaussian import rate_from_drive

# ---------------------------------------------------------------- early stopping

# score, verdict, rate of the next epoch
COURSE = [
    (0.10, Verdict.BETTER, 5e-3),
    (0.20, Verdict.BETTER, 5e-3),
    (0.20 + 5e-7, Verdict.STALE, 5e-3),  # within the tolerance
    (0.19, Verdict.ROUND_OVER, 1.5e-3),
    (0.18, Verdict.STALE, 1.5e-3),
    (0.30, Verdict.BETTER, 1.5e-3),
    (0.30, Verdict.STALE, 1.5e-3),
    (0.30, Verdict.ROUND_OVER, 4.5e-4),
    (0.30, Verdict.STALE, 4.5e-4),
    (0.30, Verdict.FINISHED, 4.5e-4),
]
SETTINGS = TrainingSettings(patience=2, rounds=3, max_epochs=50)


def test_early_stopping_follows_the_published_rule_worked_out_by_hand():
    stopping = EarlyStopping()
    for score, verdict, rate in COURSE:
        assert stopping.judge(score, SETTINGS) is verdict
        assert stopping.learning_rate(SETTINGS) == pytest.approx(rate)
    assert (stopping.best, stopping.best_epoch, stopping.finished) == (0.30, 6, True)


@pytest.mark.parametrize("epochs", range(len(COURSE)))
def test_early_stopping_goes_on_from_saved_numbers_where_it_was(epochs):
    stopping = EarlyStopping()
    for score, *_ in COURSE[:epochs]:
        stopping.judge(score, SETTINGS)
    stopping = EarlyStopping(**dataclasses.asdict(stopping))
    assert [stopping.judge(score, SETTINGS) for score, *_ in COURSE[epochs:]] == [
        verdict for _, verdict, _ in COURSE[epochs:]
    ]


def test_the_learning_rate_has_a_floor_and_the_epochs_a_limit():
    settings = TrainingSettings(patience=1, rounds=9, max_epochs=4)
    stopping = EarlyStopping()
    assert [stopping.judge(0.0, settings) for _ in range(4)][-1] is Verdict.FINISHED
    stopping.round = 8
    assert stopping.learning_rate(settings) == 1e-4


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_an_undefined_score_means_that_training_diverged(score):
    with pytest.raises(FloatingPointError, match=r"epoch 1: .* diverged; try a smaller learning_rate"):
        EarlyStopping().judge(score, SETTINGS)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("learning_rate", 0.0), ("patience", 0), ("tolerance", -1.0), ("decay", 1.5), ("loss_trials", 0)],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ValueError, match=f"{setting}: expected .* got {value}"):
        SGDSettings(**{setting: value})


# ---------------------------------------------------------------- readouts of any kind


class MeanReadout(nn.Module):
    """Weights on the mean over the feature map; the gain may be another readout's too."""

    def __init__(self, units: int, channels: int, gain: nn.Parameter) -> None:
        super().__init__()
        self.units, self.channels = units, channels
        self.weight, self.bias = nn.Parameter(torch.zeros(units, channels)), nn.Parameter(torch.zeros(units))
        self.gain, self.projected = gain, 0

    def drive(self, features: Tensor) -> Tensor:
        return self.gain * (features.mean(dim=(2, 3)) @ self.weight.T) + self.bias

    def forward(self, features: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        return rate_from_drive(self.drive(features))

    def feature_l1(self) -> Tensor:
        return self.weight.abs().sum()

    def project_(self) -> None:
        self.projected += 1


def simulated(seed, units=3, channels=2, images=240):
    """Noise-free responses of a readout like ``MeanReadout``; every validation image is shown twice."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(images, channels, 2, 2, generator=generator)
    weights = torch.randn(units, channels, generator=generator)
    responses = rate_from_drive(features.mean(dim=(2, 3)) @ weights.T)
    split, shown = 200, torch.arange(200, images).repeat(2)
    scan = ScanTrials(
        train=FeatureTrials(lambda chosen: features[chosen], torch.arange(split), responses[:split]),
        validation=FeatureTrials(lambda chosen: features[chosen], shown, responses[shown]),
        loss_trials=split,
    )
    return scan, weights


def steps_of(scans, batch_size):
    generators = [torch.Generator().manual_seed(number) for number in range(len(scans))]

    def steps(epoch):
        orders = [torch.randperm(200, generator=generator).split(batch_size) for generator in generators]
        for chosen in zip(*orders, strict=True):
            yield list(zip(chosen, generators, strict=True))

    return steps


def test_readouts_of_any_kind_find_the_truth_together_and_end_frozen():
    made = [simulated(seed) for seed in (0, 1)]
    gain = nn.Parameter(torch.ones(()))
    readouts = [MeanReadout(3, 2, gain) for _ in made]
    settings = TrainingSettings(learning_rate=0.05, feature_l1=0.0, max_epochs=80, batch_size=50)
    scans = [scan for scan, _ in made]
    fitted = train_readouts(readouts, scans, settings, steps_of(scans, 50))
    assert fitted.validation_correlation > 0.99
    for readout, (_, weights) in zip(fitted.readouts, made, strict=True):
        assert torch.allclose((readout.gain * readout.weight).detach(), weights, atol=0.15)
        assert not readout.training
        assert not any(parameter.requires_grad for parameter in readout.parameters())
        assert readout.projected == 4 * fitted.epochs


def test_followers_train_along_and_end_with_the_best_epoch():
    scan, _ = simulated(2)
    follower = nn.BatchNorm2d(2, affine=False)
    seen = []

    def features(chosen):
        seen.append(follower.training)
        return follower(torch.randn(len(chosen), 2, 2, 2, generator=torch.Generator().manual_seed(len(seen))))

    moving = dataclasses.replace(scan, train=dataclasses.replace(scan.train, features=features))
    states, scores = [], []

    def report(score, best):
        scores.append(score)
        states.append({name: value.clone() for name, value in follower.state_dict().items()})

    settings = TrainingSettings(learning_rate=0.05, max_epochs=5, batch_size=50)
    steps = steps_of([moving], 50)
    fitted = train_readouts(
        [MeanReadout(3, 2, nn.Parameter(torch.ones(())))],
        [moving],
        settings,
        steps,
        followers=[follower],
        report=report,
    )
    assert all(seen)
    assert fitted.validation_correlation == max(scores)
    best = states[scores.index(max(scores))]
    assert all(torch.equal(value, best[name]) for name, value in follower.state_dict().items())

"""The published recipe: a readout trained by stochastic gradient descent on a frozen core.

Lurz et al. 2021, section 3: Poisson loss, L1 on the feature weights, Adam, early stopping on the
validation correlation with two decays of the learning rate. Since the core is frozen, its features
are computed once and not once per epoch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mousev1.core.inference import fuse
from mousev1.core.representation import FrozenCore, as_core
from mousev1.errors import check_choice
from mousev1.readout.gaussian import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
    PositionNetworkConfig,
    normalise_cortex,
)

LOG_OFFSET = 1e-12


@dataclass(frozen=True)
class SGDSettings:
    """Hyperparameters of the published recipe.

    Attributes:
        learning_rate: of Adam, at the start.
        decay: factor on the learning rate each time the patience runs out.
        rounds: how often it may run out; the decays are one fewer.
        min_learning_rate: floor of the learning rate.
        patience: epochs without a better validation correlation.
        tolerance: what counts as better.
        max_epochs: upper limit over all rounds.
        batch_size: images per step.
        feature_l1: weight of the summed absolute feature weights.
        init_sigma: start of the sampling maps, see ``GaussianReadout``; as in the authors' transfer example.
        loss_trials: trials n in the factor sqrt(n / batch) on the loss; None is the number of training
            images. The authors' loader counts all trials of a file, validation and test included.
        position_network: the map from cortex to positions; without positions it is not used.
        batchnorm: ``"frozen"`` keeps the core bit for bit; ``"batch"`` lets its batch norm follow the
            batches, as the published code does, so that the model ends with a core of its own.
    """

    learning_rate: float = 5e-3
    decay: float = 0.3
    rounds: int = 3
    min_learning_rate: float = 1e-4
    patience: int = 5
    tolerance: float = 1e-6
    max_epochs: int = 200
    batch_size: int = 64
    feature_l1: float = 2.439
    init_sigma: float = 0.4
    loss_trials: int | None = None
    position_network: PositionNetworkConfig = field(default_factory=PositionNetworkConfig)
    batchnorm: str = "frozen"

    def __post_init__(self) -> None:
        check_choice("batchnorm", self.batchnorm, ("frozen", "batch"))
        for name in ("learning_rate", "patience", "rounds", "max_epochs", "batch_size", "loss_trials"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")


@dataclass(frozen=True)
class SGDFit:
    """What the recipe arrived at.

    Attributes:
        readout: with the weights of the best epoch, in evaluation mode.
        core: the core given, or its copy with moved batch-norm statistics.
        validation_correlation: of the best epoch, mean over units.
        epochs: how many were run.
    """

    readout: GaussianReadout
    core: FrozenCore
    validation_correlation: float
    epochs: int


def fit_sgd(
    core: FrozenCore,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    cortex: Tensor | None,
    *,
    settings: SGDSettings,
    seed: int,
    device: torch.device,
    progress: bool,
) -> SGDFit:
    """Train a readout with the published recipe.

    Args:
        core: frozen.
        train: images (N, C_in, H, W) and responses (N, U) divided by their scale.
        validation: the same, of other images.
        cortex: (U, 2) or (U, 3) cortical positions, or None for free positions.
        settings: hyperparameters.
        seed: of the initial parameters, the order of the images and the sampled positions.
        device: where to compute.
        progress: show a progress bar.

    Returns:
        Everything is on ``device``.
    """
    images, responses = train[0], train[1].to(device)
    follow_batch = settings.batchnorm == "batch"
    follower = (
        as_core(core, "batchnorm='batch'").thawed_copy().requires_grad_(False) if follow_batch else None
    )
    core = (core if follower is None else follower).to(device)
    if follow_batch:
        features_of, watched = _live_features(core, images), None
    else:
        features_of = _cached_features(core, images, settings.batch_size)
        watched = core_features(core, validation[0], settings.batch_size)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        readout = _new_readout(core, responses, cortex, settings)
    readout = readout.to(device)
    changing: list[nn.Module] = [readout] if follower is None else [readout, follower]
    generator = torch.Generator(device).manual_seed(seed)
    shuffler = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(readout.parameters(), lr=settings.learning_rate)

    def validation_correlation() -> float:
        for module in changing:
            module.eval()
        features = core_features(core, validation[0], settings.batch_size) if watched is None else watched
        with torch.no_grad():
            rates = torch.cat([readout(chunk) for chunk in features.split(settings.batch_size)])
        return mean_correlation(rates, validation[1].to(device))

    def run_epoch() -> None:
        for module in changing:
            module.train()
        for chosen in torch.randperm(len(images), generator=shuffler).split(settings.batch_size):
            with torch.no_grad():
                features = features_of(chosen)
            rates = readout(features, generator=generator)
            target = responses[chosen.to(device)]
            poisson = (rates - target * torch.log(rates + LOG_OFFSET)).sum()
            scale = math.sqrt((settings.loss_trials or len(images)) / len(chosen))
            loss = scale * poisson + settings.feature_l1 * readout.feature_l1()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            readout.project_()

    best, epochs = -math.inf, 0
    best_state = [copy.deepcopy(module.state_dict()) for module in changing]
    with tqdm(total=settings.max_epochs, desc="fit (sgd)", unit="epoch", disable=not progress) as bar:
        for decays in range(settings.rounds):
            rate = max(settings.learning_rate * settings.decay**decays, settings.min_learning_rate)
            for group in optimizer.param_groups:
                group["lr"] = rate
            stale = 0
            while stale < settings.patience and epochs < settings.max_epochs:
                run_epoch()
                epochs += 1
                score = validation_correlation()
                if not math.isfinite(score):
                    raise FloatingPointError(
                        "the validation correlation became undefined: the readout has diverged; try a "
                        "smaller learning_rate, or method='convex', which cannot diverge"
                    )
                if score > best + settings.tolerance:
                    best, stale = score, 0
                    best_state = [copy.deepcopy(module.state_dict()) for module in changing]
                else:
                    stale += 1
                bar.update()
                bar.set_postfix_str(f"validation correlation {score:.4f}, best {best:.4f}")
            for module, state in zip(changing, best_state, strict=True):
                module.load_state_dict(state)
    if follower is not None:
        follower.freeze().name = f"{core.name} (batch norm of the fit)"
    return SGDFit(readout.eval().requires_grad_(False), core, best, epochs)


def _new_readout(
    core: FrozenCore, responses: Tensor, cortex: Tensor | None, settings: SGDSettings
) -> GaussianReadout:
    units = responses.shape[1]
    positions = (
        FreePositions(units)
        if cortex is None
        else CortexPositions(normalise_cortex(cortex), PositionNetwork(settings.position_network))
    )
    weights = FeatureWeights(units, core.config.hidden_channels)
    readout = GaussianReadout(positions, weights, init_sigma=settings.init_sigma)
    with torch.no_grad():
        readout.bias.copy_(responses.mean(dim=0))
    return readout


def _cached_features(core: FrozenCore, images: Tensor, batch_size: int) -> Callable[[Tensor], Tensor]:
    cache = core_features(core, images, batch_size)
    return lambda chosen: cache[chosen.to(cache.device)]


def _live_features(core: FrozenCore, images: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda chosen: core(images[chosen].to(core.device, torch.float32))


@torch.no_grad()
def core_features(core: FrozenCore, images: Tensor, batch_size: int) -> Tensor:
    """Features (N, C, H', W') of all images at once, float32, on the core's device."""
    run = fuse(core)
    return torch.cat([run(chunk.to(core.device, torch.float32)) for chunk in images.split(batch_size)])


def mean_correlation(a: Tensor, b: Tensor) -> float:
    """Correlation over rows, averaged over the columns where it is defined; NaN if there are none."""
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    norm = (a.square().sum(dim=0) * b.square().sum(dim=0)).sqrt()
    defined = norm > 0
    return float(((a * b).sum(dim=0)[defined] / norm[defined]).mean())

"""Readouts to compare with. Oracles: numbers by hand, and the readouts against each other."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pretraining import CONFIG, small_scan, write_study

from mousev1.readout.gaussian import (
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    SharedFeatureWeights,
    as_gaussian,
)
from mousev1.storage.core_files import load_core_folder
from training.networks.factorized import FactorizedReadout
from training.networks.fully_connected import FullyConnectedReadout
from training.pretraining.__main__ import main
from training.pretraining.config import PretrainConfig, ReadoutConfig, find_scans
from training.pretraining.data import generator_for, load_scan
from training.pretraining.end_to_end import train_end_to_end, write_scans
from training.pretraining.loop import scan_loss
from training.pretraining.model import BUILDERS, build_model, build_readouts

UNITS, CHANNELS, HEIGHT, WIDTH = 3, 4, 5, 6


def kinds(config: str = CONFIG) -> dict[str, str]:
    """Every readout that can be trained, by a name for it, as a config."""
    return {
        "gaussian": config,
        "gaussian, no cortex": f"{config}[readout]\ncortex = false\n",
        "gaussian, shared": f"{config}[readout]\nshare_features = true\n",
        "factorized": f'{config}[readout]\nkind = "factorized"\ncortex = false\n',
        "factorized, shared": f'{config}[readout]\nkind = "factorized"\ncortex = false\nshare_features = true\n',
        "fully-connected": f'{config}[readout]\nkind = "fully-connected"\ncortex = false\n',
    }


@pytest.fixture(params=sorted(kinds()))
def study(request, tmp_path):
    """A config with each kind of readout, and the scans beside it."""
    path = write_study(tmp_path, kinds()[request.param])
    config = PretrainConfig.read(path)
    return config, [load_scan(file, config.core) for file in find_scans(config.scans, tmp_path)]


def factorized(*, seed: int = 0) -> FactorizedReadout:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        readout = FactorizedReadout(FeatureWeights(UNITS, CHANNELS), HEIGHT, WIDTH)
        with torch.no_grad():
            for parameter in readout.parameters():
                parameter.normal_()
            readout.project_()
    return readout


def features(count: int = 7) -> torch.Tensor:
    shape = (count, CHANNELS, HEIGHT, WIDTH)
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


# ---------------------------------------------------------------- what training asks of all of them


def test_every_kind_of_the_table_is_tested_here():
    named = {name.split(",")[0] for name in kinds()}
    assert named == set(BUILDERS)


def test_a_gradient_reaches_every_parameter(study):
    config, scans = study
    model = build_model(config, scans).train()
    for scan in range(len(scans)):
        loss, _ = scan_loss(
            model, scans, scan, torch.arange(8), config=config, generator=generator_for((0,), "cpu")
        )
        loss.backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert untouched == []


def test_rates_have_one_column_per_neuron_and_biases_start_at_the_mean_response(study):
    config, scans = study
    model = build_model(config, scans).eval()
    for number, scan in enumerate(scans):
        readout = model.readout(number)
        images = scan.train.images[:6].float()
        with torch.no_grad():
            map_of = model.core(images)
            assert readout(map_of).shape == (6, scan.units)
            assert bool((readout(map_of) > 0).all())
            # ELU + 1 of the drive
            drive = readout.drive(map_of)
        by_hand = torch.where(drive > 0, drive + 1, drive.clamp(max=0).exp())
        assert torch.allclose(readout(map_of), by_hand, atol=1e-6)
        assert torch.equal(readout.bias, scan.mean_response)
        assert (readout.units, readout.mu().shape) == (scan.units, (scan.units, 2))


def test_a_penalty_grows_with_the_weights_it_weighs(study):
    config, scans = study
    readout = build_model(config, scans).readout(0)
    weights = readout.weight if isinstance(readout, FullyConnectedReadout) else None
    if weights is None:
        own = readout.weights
        weights = own.bank.weight if isinstance(own, SharedFeatureWeights) else own.weight
    before = readout.feature_l1().item()
    with torch.no_grad():
        weights.mul_(-3.0)
    assert readout.feature_l1().item() == pytest.approx(3 * before, rel=1e-5)


# ---------------------------------------------------------------- factorized


def test_a_factorized_readout_by_hand():
    readout = FactorizedReadout(FeatureWeights(1, 2), 1, 2)
    with torch.no_grad():
        readout.mask.copy_(torch.tensor([[[3.0, 4.0]]]))  # of norm 5: .6 and .8
        readout.weights.weight.copy_(torch.tensor([[2.0, -1.0]]))
        readout.bias.fill_(0.5)
    given = torch.tensor([[[[1.0, 2.0]], [[10.0, 0.0]]]])
    # 2 * (.6 * 1 + .8 * 2) - 1 * (.6 * 10) + .5 = -1.1, below zero
    assert readout.drive(given).item() == pytest.approx(-1.1, abs=1e-4)
    assert readout(given).item() == pytest.approx(np.exp(-1.1), abs=1e-4)
    # L1 of the mask, 1.4, times that of the weights, 3
    assert readout.feature_l1().item() == pytest.approx(4.2, abs=1e-4)
    # centre of mass: (3 * -1 + 4 * 1) / 7 across, the only row down
    assert readout.mu().tolist() == [pytest.approx([1 / 7, -1.0])]


def test_factorized_is_fully_connected_with_weights_that_are_a_product():
    small = factorized()
    whole = FullyConnectedReadout(UNITS, CHANNELS, HEIGHT, WIDTH)
    with torch.no_grad():
        mask, weights = small.normalised_mask(), small.weights()
        whole.weight.copy_(weights[:, :, None, None] * mask[:, None])
        whole.bias.copy_(small.bias)
    assert torch.allclose(whole(features()), small(features()), atol=1e-5)
    assert whole.feature_l1().item() == pytest.approx(small.feature_l1().item(), rel=1e-5)
    # sum_c |w_c| m_xy: the centre of mass of the product is that of the mask
    assert torch.allclose(whole.mu(), small.mu(), atol=1e-5)


def test_projection_takes_negative_entries_of_the_mask_to_zero_and_no_other():
    readout = factorized()
    with torch.no_grad():
        readout.mask.normal_(generator=torch.Generator().manual_seed(1))
    before = {name: tensor.clone() for name, tensor in readout.state_dict().items()}
    readout.project_()
    assert bool((readout.mask >= 0).all())
    assert torch.equal(readout.mask, before["mask"].clamp(min=0))
    assert torch.equal(readout.weights.weight, before["weights.weight"])
    assert torch.equal(readout.bias, before["bias"])


def test_masks_start_random_and_not_negative():
    mask = FactorizedReadout(FeatureWeights(UNITS, CHANNELS), HEIGHT, WIDTH).mask
    assert bool((mask >= 0).all())
    assert len(mask.unique()) > mask.numel() / 2


def test_a_mask_that_vanished_can_come_back():
    readout = factorized()
    with torch.no_grad():
        readout.mask[0] = 0.0
    readout(features()).sum().backward()
    assert bool(torch.isfinite(readout.mask.grad).all())
    assert float(readout.mask.grad[0].abs().sum()) > 0


def test_shared_features_are_equal_up_to_a_scale_per_scan(tmp_path):
    path = write_study(tmp_path, kinds()["factorized, shared"])
    config = PretrainConfig.read(path)
    scans = [load_scan(file, config.core) for file in find_scans(config.scans, tmp_path)]
    readouts = build_readouts(scans, config.core, config.readout)
    # write_study numbers the neurons of its scans (5, 3 and 4 of them) from 0: the first three are in all.
    with torch.no_grad():
        for scale, readout in zip((1.0, 2.0, -0.5), readouts, strict=True):
            readout.weights.scale.fill_(scale)
        first, second, third = (readout.weights() for readout in readouts)
    assert torch.equal(second, 2.0 * first[:3])
    assert torch.equal(third, -0.5 * first[:4])
    assert len({id(readout.weights.bank) for readout in readouts}) == 1
    assert not torch.equal(readouts[0].mask[:3], readouts[1].mask)  # each scan looks for itself
    # One bank of 5 x 4 weights, and per neuron of a scan a mask, a bias and a scale.
    height, width = 8, 12
    expected = 5 * 4 + (5 + 3 + 4) * (height * width + 2)
    assert sum(parameter.numel() for parameter in readouts.parameters()) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "factorized"}, "readout.cortex: a factorized readout takes no cortical positions"),
        (
            {"kind": "fully-connected"},
            "readout.cortex: a fully-connected readout takes no cortical positions",
        ),
        (
            {"kind": "fully-connected", "cortex": False, "share_features": True},
            "readout.share_features: a fully connected readout has no feature weights",
        ),
        ({"kind": "linear"}, "readout.kind: expected one of 'gaussian', 'factorized', 'fully-connected'"),
    ],
)
def test_what_a_readout_cannot_do_is_refused(tmp_path, options, message):
    config = PretrainConfig.read(write_study(tmp_path))
    scans = [load_scan(tmp_path / "a.h5", config.core)]
    with pytest.raises(ValueError, match=message):
        build_readouts(scans, config.core, ReadoutConfig(**options))


def test_a_map_of_another_size_is_refused():
    for readout in (factorized(), FullyConnectedReadout(UNITS, CHANNELS, HEIGHT, WIDTH)):
        with pytest.raises(ValueError, match=r"features: expected \(N, 4, 5, 6\), got \(7, 4, 5, 5\)"):
            readout(features()[..., :-1])


# ---------------------------------------------------------------- whole runs


@pytest.mark.parametrize("kind", ["factorized", "factorized, shared", "fully-connected"])
def test_pretraining_learns_what_neurons_see_with_every_readout(tmp_path, kind):
    """Oracle: the spots that simulated neurons see, noise a tenth of the signal."""
    for name, seed in (("a", 1), ("b", 2)):
        small_scan(name, train=300, units=20, seed=seed).write(tmp_path / f"{name}.h5")
    path = tmp_path / "config.toml"
    recipe = "max_epochs = 12\nfeature_l1 = 0.1"
    path.write_text(kinds()[kind].replace("max_epochs = 4\npatience = 1", recipe))
    assert main([str(path), "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best"] > 0.7
    trained = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    masks = [value for key, value in trained.items() if key.endswith(".mask")]
    assert len(masks) == (0 if kind == "fully-connected" else 2)
    assert all(bool((mask >= 0).all()) for mask in masks)
    # No prior on weights at a location comes of weights over the whole map.
    assert load_core_folder(tmp_path / "run" / "core").readout_prior is None
    assert (tmp_path / "run" / "figures" / "positions.png").is_file()


@pytest.mark.parametrize("kind", ["factorized", "fully-connected"])
def test_a_model_trained_directly_predicts_with_its_own_readout_and_is_not_saved(tmp_path, kind):
    scan = small_scan("a", train=60, units=4, seed=1)
    recipe = PretrainConfig.read(write_study(tmp_path, kinds()[kind]))
    model = train_end_to_end(write_scans([scan], tmp_path / "direct"), recipe, tmp_path / "direct").models[0]
    with torch.no_grad():
        rates = model.readout(model.core(torch.from_numpy(scan.images).float())) * model.response_scale
    assert np.allclose(model.predict(scan.images), rates.numpy(), rtol=1e-3, atol=1e-3)
    with pytest.raises(TypeError, match="save: expected a model with a GaussianReadout"):
        model.save(tmp_path / "model")


def test_a_gaussian_readout_is_itself():
    readout = GaussianReadout(FreePositions(2), FeatureWeights(2, 3))
    assert as_gaussian(readout, "test") is readout

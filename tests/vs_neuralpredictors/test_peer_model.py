"""With the same parameters, the authors' library and mousev1 compute the same numbers."""

from __future__ import annotations

import collections
import sys
import warnings

import numpy as np
import pytest
import torch

from mousev1.core.network import Core, CoreConfig, InputContract
from mousev1.fit.settings import SGDSettings
from mousev1.hub.checkpoint_import import import_checkpoint
from mousev1.readout.gaussian import (
    CortexPositions,
    FeatureWeights,
    FreePositions,
    GaussianReadout,
    PositionNetwork,
    normalise_cortex,
)
from training.measurements import peer as benchmark

UNITS = 12


def lively_core(config: CoreConfig | None = None) -> Core:
    """A random core whose batch norms have statistics and weights of their own."""
    core = Core.random(config, seed=0).thawed_copy()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in core.state_dict().items():
            if ".norm." in name and tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return core.freeze()


def pictures(count: int, *, seed: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 36, 64), generator=generator).float()


def cortex() -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 800, (UNITS, 3))


def settled_readout(positions: np.ndarray | None) -> GaussianReadout:
    """A readout with random parameters everywhere, some positions at the border of the map."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        where = (
            FreePositions(UNITS, init_range=1.0)
            if positions is None
            else CortexPositions(normalise_cortex(torch.from_numpy(positions)), PositionNetwork())
        )
        readout = GaussianReadout(where, FeatureWeights(UNITS, 64))
        with torch.no_grad():
            readout.weights.weight.normal_(std=0.05)
            readout.bias.normal_()
            if positions is not None:
                where.network.layers[0].weight.mul_(6.0)
    return readout.eval()


def copy_into_peer(readout: GaussianReadout, target: torch.nn.Module) -> None:
    with torch.no_grad():
        target.features.copy_(readout.weights().T[None, :, None])
        target.bias.copy_(readout.bias)
        target.sigma.copy_(readout.sigma[None])
        if isinstance(readout.positions, FreePositions):
            target._mu.copy_(readout.positions.mu[None, :, None])
        else:
            target.mu_transform.load_state_dict(readout.positions.network.layers.state_dict())


def peer_model(core: Core, positions: np.ndarray | None) -> torch.nn.Module:
    return benchmark.build_model(
        core, pictures(1), torch.ones(UNITS), positions, settings=SGDSettings()
    ).eval()


def test_importing_the_peer_leaves_no_trace_and_no_warning(peer):
    had = "torchvision" in sys.modules, hasattr(collections, "Iterable")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        benchmark.import_peer()
    assert ("torchvision" in sys.modules, hasattr(collections, "Iterable")) == had


@pytest.mark.parametrize(
    "config",
    [CoreConfig(), CoreConfig(hidden_channels=16, layers=3, input_kernel=9, hidden_kernel=7)],
    ids=["11-S", "small"],
)
def test_core_features_are_equal(peer, config):
    core = lively_core(config)
    theirs = benchmark.build_core(config, benchmark.peer_core_state(core))
    with torch.no_grad():
        expected = theirs(pictures(3) / 255.0)
        got = core(pictures(3) / 255.0)
    assert got.std() > 0.01
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_the_published_core_gives_equal_features_from_its_own_state_dict(peer, shared):
    path = shared("weights/lurz_11s_core.pt")
    core = import_checkpoint(path)
    assert isinstance(core, Core)
    state = torch.load(path, map_location="cpu", weights_only=True)
    theirs = benchmark.build_core(core.config, state)
    with np.load(shared("golden/lurz_11s_core_features.npz")) as golden:
        images = torch.from_numpy(golden["images"])[:, None].float()
    with torch.no_grad():
        torch.testing.assert_close(core(images), theirs(images), rtol=0, atol=1e-4)
    for name, tensor in benchmark.peer_core_state(core).items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def test_core_parameter_counts_are_equal(peer):
    core = Core()
    theirs = benchmark.build_core(core.config, benchmark.peer_core_state(core))
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in core.parameters())


def test_smoothness_is_the_authors_regulariser(peer):
    core = lively_core()
    filters = core.layers[0].conv.weight
    expected = peer.laplace_l2_norm()(filters)
    assert core.smoothness().item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("positions", [cortex(), None], ids=["cortex", "free"])
def test_rates_are_equal(peer, positions):
    core, readout = lively_core(), settled_readout(positions)
    theirs = peer_model(core, positions)
    copy_into_peer(readout, theirs.readout)
    images = pictures(5) / 255.0
    with torch.no_grad():
        expected, features = theirs(images), core(images)
        got = readout(features)
    assert (readout.mu().abs() == 1.0).any() == (positions is not None)
    assert got.std() > 0.01
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    assert readout.feature_l1().item() == pytest.approx(theirs.readout.feature_l1().item(), rel=1e-5)


@pytest.mark.parametrize("positions", [cortex(), None], ids=["cortex", "free"])
def test_sampled_rates_have_equal_moments(peer, positions):
    # the two draw from different streams of random numbers, so only their distributions can agree
    core, readout = lively_core(), settled_readout(positions)
    theirs = peer_model(core, positions)
    with torch.no_grad():
        readout.sigma.mul_(2.0)
        if positions is not None:
            readout.positions.network.layers[0].weight.mul_(0.1)
        else:
            readout.positions.mu.mul_(0.5)
        copy_into_peer(readout, theirs.readout)
        features = core(pictures(1) / 255.0).expand(4000, -1, -1, -1)
        readout.train()
        theirs.readout.train()
        torch.manual_seed(5)
        ours, expected = readout.drive(features), theirs.readout(features)
    error = (ours.var(dim=0) / 4000 + expected.var(dim=0) / 4000).sqrt()
    assert ((ours.mean(dim=0) - expected.mean(dim=0)).abs() < 5 * error + 1e-6).all()
    torch.testing.assert_close(ours.std(dim=0), expected.std(dim=0), rtol=0.15, atol=1e-4)


@pytest.mark.parametrize("positions", [cortex(), None], ids=["cortex", "free"])
def test_readout_parameter_counts_are_equal(peer, positions):
    theirs = peer_model(lively_core(), positions).readout
    expected = sum(p.numel() for p in theirs.parameters())
    assert settled_readout(positions).n_parameters() == expected


def test_the_authors_normalise_cortex_as_we_do(peer):
    theirs = peer_model(lively_core(), cortex()).readout
    got = normalise_cortex(torch.from_numpy(cortex()))
    torch.testing.assert_close(got, theirs.source_grid, rtol=0, atol=1e-6)


def simulated(core: Core, *, images: int = 80) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        stimuli = pictures(images, seed=6)
        rates = settled_readout(cortex())(core(stimuli)).numpy()
    return stimuli.numpy(), np.random.default_rng(7).gamma(rates + 0.1)


@pytest.mark.parametrize("mode", ["frozen", "batch"])
def test_a_peer_fit_is_repeatable_and_moves_batch_norm_only_if_told_to(peer, mode):
    config = CoreConfig(
        hidden_channels=64, layers=2, hidden_kernel=3, input=InputContract(mean=113.0, std=60.0)
    )
    core = lively_core(config)
    images, responses = simulated(core)
    fits = [
        benchmark.fit_peer(
            core,
            (images[:60], responses[:60]),
            (images[60:], responses[60:]),
            cortex(),
            settings=SGDSettings(batchnorm=mode, max_epochs=3, batch_size=32),
            seed=8,
        )
        for _ in range(2)
    ]
    np.testing.assert_array_equal(fits[0].predict(images), fits[1].predict(images))
    assert [epoch.number for epoch in fits[0].epochs] == [1, 2, 3]
    assert all(epoch.learning_rate == 5e-3 for epoch in fits[0].epochs)
    assert all(np.isfinite(epoch.validation_correlation) for epoch in fits[0].epochs)
    before, after = benchmark.peer_core_state(core), fits[0].model.core.state_dict()
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert all("running" in name or "tracked" in name for name in moved)
    assert bool(moved) == (mode == "batch")


def test_a_peer_fit_learns_and_predicts_in_the_units_that_went_in(peer):
    config = CoreConfig(
        hidden_channels=64, layers=2, hidden_kernel=3, input=InputContract(mean=113.0, std=60.0)
    )
    core = lively_core(config)
    images, responses = simulated(core, images=200)
    responses *= np.geomspace(0.1, 10.0, UNITS)
    fit = benchmark.fit_peer(
        core,
        (images[:160], responses[:160]),
        (images[160:], responses[160:]),
        cortex(),
        settings=SGDSettings(max_epochs=5, batch_size=16),
        seed=9,
    )
    rates = fit.predict(images)
    np.testing.assert_allclose(rates.mean(axis=0) / responses.mean(axis=0), 1.0, atol=0.5)


def test_silent_units_are_scaled_as_the_authors_do():
    responses = np.zeros((4, 2))
    responses[:, 0] = [0, 2, 0, 2]
    # deviations 1 and 0, their mean 0.5, a hundredth of it 0.005
    np.testing.assert_allclose(benchmark.response_scale(responses), [1.0, 0.005])

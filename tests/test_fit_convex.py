"""The convex fit finds the neurons that a simulation put there."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mousev1.core.crop import Region
from mousev1.core.feature_statistics import training_statistics
from mousev1.core.network import Core, CoreConfig
from mousev1.fit import population
from mousev1.fit.convex import ConvexFit, fit_convex
from mousev1.fit.features import FeatureStore, compute_features
from mousev1.fit.memory import plan_memory
from mousev1.fit.retinotopy import Retinotopy, fit_retinotopy
from mousev1.fit.score_maps import ScoreMaps
from mousev1.fit.settings import ConvexSettings
from mousev1.readout.gaussian import normalise_cortex, rate_from_drive
from mousev1.readout.interpolation import region_around, sample_at
from mousev1.readout.posterior import rate_std

CORE = CoreConfig(hidden_channels=8, layers=2, input_kernel=5, hidden_kernel=5)
SETTINGS = ConvexSettings(map_units=150, prior_units=100)


@dataclass(frozen=True)
class Scene:
    """A simulated scan: what a fit gets, and the truth."""

    core: Core
    images: Tensor
    responses: Tensor
    cortex: Tensor
    pixels: Tensor
    test_images: Tensor
    test_rates: Tensor


def smooth_pictures(n: int, generator: torch.Generator) -> Tensor:
    noise = torch.randn(n, 1, 24, 36, generator=generator)
    kernel = torch.ones(1, 1, 5, 5) / 5.0
    noise = F.conv2d(F.conv2d(noise, kernel, padding=2), kernel, padding=2)
    return (noise / noise.std() * 50 + 128).clamp(0, 255).to(torch.uint8)


def readout_pixels(kind: str, cortex: Tensor, generator: torch.Generator) -> Tensor:
    """True pixels (x, y) on the 32 x 20 feature map."""
    x, y = cortex.unbind(dim=1)
    pixels = torch.stack([15.5 + 9 * x - 3 * y, 9.5 + 2 * x + 5 * y], dim=1)
    if kind == "nonlinear":
        pixels = pixels + torch.stack([-6 * (x.square() - 0.3), 4 * torch.sin(3 * x) * y], dim=1)
    if kind == "patch":
        pixels = torch.stack([20.0 + 2.5 * x - y, 8.0 + 0.5 * x + 1.5 * y], dim=1)
    if kind == "scattered":
        pixels = pixels + 3.0 * torch.randn(pixels.shape, generator=generator)
    return torch.minimum(pixels.clamp_min(0.0), torch.tensor([31.0, 19.0]))


def simulate(
    kind: str = "affine", *, units: int = 150, n: int = 500, seed: int = 0, alike: bool = False
) -> Scene:
    """A scan; with ``alike`` neurons use two of the eight channels only."""
    generator = torch.Generator().manual_seed(seed)
    core = Core.random(CORE, seed=seed)
    cortex = normalise_cortex(torch.rand(units, 2, generator=generator))
    pixels = readout_pixels(kind, cortex, generator)
    images = smooth_pictures(n + 100, generator)
    features = core(images.float())
    mu = pixels / torch.tensor([31.0, 19.0]) * 2 - 1
    sampled = sample_at(features, mu)
    sampled = (sampled - features.mean(dim=(0, 2, 3))) / features.std(dim=(0, 2, 3))
    weights = torch.randn(units, 8, generator=generator) * 0.4
    if alike:
        weights = weights * torch.tensor([2.0, 2.0, 0, 0, 0, 0, 0, 0])
    rates = rate_from_drive(torch.einsum("unc,uc->nu", sampled, weights) - 0.3)
    torch.manual_seed(seed)
    phi = 0.6
    responses = torch.distributions.Gamma(rates[:n] / phi, torch.tensor(1.0 / phi)).sample()
    scale = responses.std(dim=0)
    return Scene(core, images[:n], responses / scale, cortex, pixels, images[n:], rates[n:] / scale)


def fit(scene: Scene, **options) -> ConvexFit:
    cortex = options.pop("cortex", scene.cortex)
    return fit_convex(scene.core, scene.images, scene.responses, cortex, **({"settings": SETTINGS} | options))


def predict(scene: Scene, fitted: ConvexFit) -> tuple[Tensor, Tensor]:
    """Rates (N, U) and their standard deviations for the test images."""
    sampled = sample_at(scene.core(scene.test_images.float()), fitted.mu)
    drive = torch.einsum("unc,uc->nu", sampled, fitted.weights) + fitted.bias
    return rate_from_drive(drive), rate_std(drive, fitted.posterior.drive_variance(sampled))


def correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(dim=0), b - b.mean(dim=0)
    return float(((a * b).sum(dim=0) / (a.square().sum(dim=0) * b.square().sum(dim=0)).sqrt()).mean())


def error(scene: Scene, fitted: ConvexFit) -> float:
    """Median distance from the true locations, pixels."""
    pixels = (fitted.mu + 1) / 2 * torch.tensor([31.0, 19.0])
    return float((pixels - scene.pixels).norm(dim=1).median())


@pytest.fixture(scope="module")
def affine() -> tuple[Scene, ConvexFit]:
    scene = simulate("affine")
    return scene, fit(scene)


def test_an_affine_retinotopy_is_found(affine: tuple[Scene, ConvexFit]) -> None:
    scene, fitted = affine
    expected = fitted.retinotopy.map.expected(scene.cortex, len(scene.cortex))
    assert fitted.retinotopy.map.name == "affine"
    assert (expected - scene.pixels).norm(dim=1).median() < 0.2
    assert fitted.retinotopy.map.scatter < 0.6
    assert error(scene, fitted) < 0.2


def test_rates_are_predicted(affine: tuple[Scene, ConvexFit]) -> None:
    scene, fitted = affine
    rates, _ = predict(scene, fitted)
    assert correlation(rates, scene.test_rates) > 0.9


def test_intervals_cover_the_true_rates(affine: tuple[Scene, ConvexFit]) -> None:
    scene, fitted = affine
    rates, std = predict(scene, fitted)
    covered = ((rates - scene.test_rates).abs() < 1.96 * std).float().mean()
    assert 0.90 <= covered <= 0.98


def test_a_nonlinear_retinotopy_is_found() -> None:
    scene = simulate("nonlinear")
    fitted = fit(scene)
    scores = fitted.retinotopy.held_out
    assert max(scores["smooth(2)"], scores["smooth(8)"]) > 1.2 * scores["affine"]
    assert fitted.retinotopy.map.design.kind == "smooth"
    assert not fitted.retinotopy.map.scattered
    assert error(scene, fitted) < 0.3


def test_scattered_neurons_are_found_one_by_one() -> None:
    scene = simulate("scattered")
    fitted = fit(scene)
    assert fitted.retinotopy.map.scattered
    assert error(scene, fitted) < 0.35
    assert 2.0 < fitted.retinotopy.map.scatter < 4.0
    assert correlation(predict(scene, fitted)[0], scene.test_rates) > 0.85


@dataclass(frozen=True)
class Passes:
    """What was computed of a feature map, one after the other: regions, numbers of images, and what holds them."""

    regions: list[Region | None]
    images: list[int]
    stores: list[FeatureStore]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    seen = Passes([], [], [])

    def watched(core: Core, images: Tensor, **options) -> FeatureStore:
        seen.regions.append(options["region"])
        seen.images.append(len(options["order"]))
        seen.stores.append(compute_features(core, images, **options))
        return seen.stores[-1]

    monkeypatch.setattr("mousev1.fit.readout_locations.compute_features", watched)
    return seen


PARTS = dataclasses.replace(SETTINGS, map_images=400)


def test_features_are_computed_where_neurons_look(passes: Passes) -> None:
    scene, lines = simulate("patch", n=600), []
    part = fit(scene, settings=PARTS, report=lines.append)
    assert passes.images == [166, 400, 600]
    whole, around, seen = passes.regions
    assert whole is None
    assert around is not None
    assert seen is not None
    left, top = scene.pixels.amin(dim=0).floor().int().tolist()
    right, bottom = scene.pixels.amax(dim=0).ceil().int().tolist()
    assert (top, left) in around
    assert (bottom, right) in around
    assert seen == region_around(part.mu, 20, 32)[0]
    assert len(seen) < len(around) < 0.6 * 20 * 32
    assert lines[-1].startswith(
        f"neurons look at {seen.height} x {seen.width} of 20 x 32 pixels of the feature map; core features:"
    )
    assert error(scene, part) < 0.2
    everywhere = fit(scene, settings=dataclasses.replace(SETTINGS, first_images=600))
    assert passes.images[3:] == [600]
    # The map is found from fewer images, so that rates agree within their uncertainty only.
    (rates, std), (expected, _) = predict(scene, part), predict(scene, everywhere)
    assert ((rates - expected).abs() < std).float().mean() > 0.9
    assert correlation(rates, scene.test_rates) > correlation(expected, scene.test_rates) - 0.005


def test_the_map_is_compared_on_images_that_did_not_show_where_to_look(passes: Passes) -> None:
    fit(simulate("patch", n=600), settings=dataclasses.replace(SETTINGS, map_images=8))
    assert passes.images == [166, 222, 600]  # three of four folds for the 166


def test_all_images_pass_whole_if_neurons_look_beyond_the_region(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, calls = simulate("affine", n=600), []

    def misled(maps: ScoreMaps, cortex: Tensor | None, **options) -> Retinotopy:
        found = fit_retinotopy(maps, cortex, **options)
        calls.append(found.map)
        if len(calls) > 1:
            return found
        narrow = found.map.coefficients * torch.tensor([[1.0], [0.3], [0.3]])
        return dataclasses.replace(found, map=dataclasses.replace(found.map, coefficients=narrow))

    monkeypatch.setattr("mousev1.fit.readout_locations.fit_retinotopy", misled)
    fitted = fit(scene, settings=PARTS)
    assert passes.images == [166, 400, 400, 600]
    _, narrow, wide, _ = passes.regions
    assert narrow is not None
    assert len(narrow) < 20 * 32
    assert wide == Region(0, 20, 0, 32)
    assert error(scene, fitted) < 0.2


@pytest.mark.parametrize("kind", ["patch", "scattered"])
def test_features_take_no_more_than_was_planned_and_are_gone_in_the_end(
    kind: str, passes: Passes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, held = simulate(kind, n=600), []
    features = plan_memory(scene.core, scene.images, 150, memory=None, directory=None).features

    def solve(self: population.PopulationGlm, *a, **b) -> population.PopulationFit:
        held.append(self.data.store.held())
        return run(self, *a, **b)

    run = population.PopulationGlm.fit
    monkeypatch.setattr(population.PopulationGlm, "fit", solve)
    monkeypatch.setattr("mousev1.fit.memory.current_memory", lambda: 10**9)
    work = plan_memory(scene.core, scene.images, 150, memory=None, directory=None).work
    fits = []
    for room in (2 * features, features // 3, 1000):
        fits.append(fit(scene, settings=PARTS, memory=10**9 + work + room, directory=tmp_path))
        memory, disk = held[-1]
        assert memory <= room
        assert memory + disk <= features
        assert same(fits[0], fits[-1], scene) < 1e-4
    assert held[-1][0] == 0  # all of it on disk
    assert len(passes.stores) >= 6
    assert all(store._memory is None and store._file is None for store in passes.stores)


def test_a_map_of_one_pixel_can_be_fitted() -> None:
    scene = simulate(units=20, n=60)
    whole = CoreConfig(hidden_channels=8, layers=1, input_kernel=23)
    fitted = fit(
        dataclasses.replace(scene, core=Core.random(whole, seed=0), images=scene.images[:, :, :23, :23]),
        settings=SETTINGS,
    )
    assert torch.isfinite(fitted.weights).all()
    assert torch.isfinite(fitted.position_covariance).all()


def test_without_cortex_neurons_are_found_from_responses_alone() -> None:
    scene = simulate("affine")
    fitted = fit(scene, cortex=None)
    assert fitted.retinotopy.map.name == "constant+offsets"
    assert error(scene, fitted) < 1.0


def test_intervals_cover_the_true_places() -> None:
    scene = simulate("scattered")
    fitted = fit(scene)
    pixel = torch.tensor([31.0, 19.0]) / 2
    off = (fitted.mu + 1) * pixel - scene.pixels
    variance = fitted.position_covariance.diagonal(dim1=1, dim2=2) * pixel.square()
    covered = (off.abs() < 1.96 * variance.sqrt()).float().mean()
    assert 0.90 <= covered <= 0.98


def test_precision_from_some_images_is_that_from_all(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = simulate(n=200)
    fitted = fit(scene)
    monkeypatch.setattr("mousev1.fit.readout_locations.IMAGES_FOR_PRECISION", 50)
    some = fit(scene, settings=dataclasses.replace(SETTINGS, map_images=100))
    assert (
        fitted.retinotopy.map.name == some.retinotopy.map.name == "affine"
    )  # on a map, precision is all that is asked
    variance, expected = (f.position_covariance.diagonal(dim1=1, dim2=2).sum(dim=1) for f in (some, fitted))
    assert 0.75 < float((variance / expected).median()) < 1.2


def same(a: ConvexFit, b: ConvexFit, scene: Scene) -> float:
    """Largest difference between the rates and deviations of two fits."""
    return max(float((x - y).abs().max()) for x, y in zip(predict(scene, a), predict(scene, b), strict=True))


def test_a_seed_gives_the_same_fit(affine: tuple[Scene, ConvexFit]) -> None:
    scene, fitted = affine
    again = fit(scene)
    assert torch.equal(fitted.weights, again.weights)
    assert torch.equal(fitted.mu, again.mu)


def test_streaming_from_disk_gives_the_same_fit(affine: tuple[Scene, ConvexFit], tmp_path: Path) -> None:
    scene, fitted = affine
    plan = plan_memory(scene.core, scene.images, 150, memory=None, directory=None)
    streamed = fit(scene, memory=plan.peak - plan.features // 2, directory=tmp_path)
    assert streamed.memory.directory == tmp_path
    assert same(fitted, streamed, scene) < 1e-4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["affine", "patch"])
@pytest.mark.parametrize("half_from", [10, 10_000], ids=["from half of the images", "from all"])
def test_shared_tables_do_not_change_the_fit(
    kind: str, half_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mousev1.fit.glm.HALF_FROM", half_from)
    scene, fits, made = simulate(kind), [], set()
    shared, own = population.PopulationGlm._shared, population.PopulationGlm._own
    monkeypatch.setattr(population.PopulationGlm, "_shared", lambda *a: made.add("shared") or shared(*a))
    monkeypatch.setattr(population.PopulationGlm, "_own", lambda *a: made.add("own") or own(*a))
    for least, expected in ((0, {"shared"}), (1000, {"own"})):
        monkeypatch.setattr(population, "SHARED_FROM", least)
        made.clear()
        fits.append(fit(scene))
        assert made == expected
    assert same(*fits, scene) < 1e-4


@pytest.mark.parametrize("least", [0, 1000], ids=["shared tables", "own tables"])
def test_chunks_do_not_change_the_fit(
    least: int, affine: tuple[Scene, ConvexFit], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, fitted = affine
    monkeypatch.setattr(population, "SHARED_FROM", least)
    monkeypatch.setattr(population, "FEATURE_VALUES", 1)
    monkeypatch.setattr(population, "DRIVE_VALUES", 1)
    monkeypatch.setattr(population, "LEAST_NEURONS_AT_ONCE", 1)
    monkeypatch.setattr("mousev1.fit.regressors.SCRATCH_VALUES", 1)
    monkeypatch.setattr("mousev1.fit.score_maps.WEIGHT_VALUES", 1)
    monkeypatch.setattr("mousev1.fit.features.IMAGES_PER_WRITE", 7)
    monkeypatch.setattr("mousev1.fit.retinotopy.CHUNK", 11)
    monkeypatch.setattr("mousev1.fit.readout_locations.UNITS_PER_PASS", 13)
    assert same(fitted, fit(scene), scene) < 1e-4


def test_statistics_are_those_of_the_training_images() -> None:
    scene = simulate(units=20, n=60)
    found, expected = fit(scene).statistics, training_statistics(scene.core, scene.images)
    assert found is not None
    for name, value in expected.tensors().items():
        # but for features that were stored in half precision
        torch.testing.assert_close(found.tensors()[name], value, rtol=2e-3, atol=1e-4, msg=name)


def test_threads_do_not_change_the_fit(affine: tuple[Scene, ConvexFit]) -> None:
    scene, fitted = affine
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        assert same(fitted, fit(scene), scene) < 1e-4
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["affine", "patch"])
def test_constant_neurons_predict_their_constant_and_spare_the_others(kind: str) -> None:
    scene = simulate(kind)
    responses = scene.responses.clone()
    responses[:, 0], responses[:, 5] = 0.4, 2.5
    fitted = fit(dataclasses.replace(scene, responses=responses))
    rates, _ = predict(scene, fitted)
    assert fitted.constant.nonzero()[:, 0].tolist() == [0, 5]
    assert (rates[:, 0] - 0.4).abs().max() < 1e-6
    assert (rates[:, 5] - 2.5).abs().max() < 1e-6
    assert any("2 of 150 neurons never change" in note for note in fitted.notes)
    live = ~fitted.constant
    assert correlation(rates[:, live], scene.test_rates[:, live]) > 0.9


def test_a_prior_from_elsewhere_helps_a_small_scan_and_is_told() -> None:
    large = simulate("affine", seed=0, alike=True)
    small = simulate("affine", units=12, n=24, seed=0, alike=True)
    prior = fit(large).prior
    alone, helped = fit(small), fit(small, prior=prior)
    assert any("starts from one learned on" in note for note in helped.notes)
    gain = correlation(predict(small, helped)[0], small.test_rates) - correlation(
        predict(small, alone)[0], small.test_rates
    )
    assert gain > 0.01


@pytest.mark.parametrize("images", [3, 40], ids=["by row", "by column"])
def test_responses_are_those_of_the_neurons_to_the_images_asked_for(images: int) -> None:
    generator = torch.Generator().manual_seed(0)
    table, order = torch.rand(40, 30, generator=generator), torch.randperm(40, generator=generator)
    scale, units = torch.linspace(1.0, 2.0, 30), torch.tensor([7, 0, 21])
    with compute_features(Core.random(CORE, seed=0), smooth_pictures(40, generator)) as store:
        found = population.FitData(store, table, scale, order).responses(units, images)
    by_hand = [[table[order[i], u] / scale[u] for u in units] for i in range(images)]
    assert torch.equal(found, torch.tensor(by_hand))


def test_too_little_memory_is_told_before_work_starts() -> None:
    scene = simulate(units=4, n=20)
    with pytest.raises(ValueError, match="memory: expected at least"):
        fit(scene, memory=1000)


def test_twenty_thousand_neurons_and_thirty_thousand_images_fit_in_8_gigabytes() -> None:
    images = torch.empty(1, dtype=torch.uint8).expand(30_000, 1, 36, 64)
    plan = plan_memory(Core.random(seed=0), images, 20_000, memory=None, directory=None)
    # The responses themselves, 2.4 GB, are the caller's and held already in a real run.
    responses = 30_000 * 20_000 * 4
    assert plan.features == 30_000 * 1100 * 64 * 2
    assert plan.work + responses < 8e9


@pytest.mark.parametrize(
    ("change", "message"), [({"map_units": 0}, "map_units"), ({"map_spacing": 0}, "map_spacing")]
)
def test_bad_settings_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvexSettings(**change)


def test_a_population_without_any_change_is_refused() -> None:
    scene = simulate(units=4, n=20)
    with pytest.raises(ValueError, match="every neuron is constant"):
        fit(dataclasses.replace(scene, responses=torch.ones_like(scene.responses)))

"""The transfer of one representation to one scan, on a scan whose core, readout and rates are known."""

from __future__ import annotations

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import mousev1
from mousev1.compare import learning_curve as transfer
from mousev1.compare.differences import difference_columns, difference_table
from mousev1.compare.draws import training_subset
from mousev1.compare.learning_curve import transfer_curve
from mousev1.compare.results import CurveRow, LearningCurve, combine, read_curve
from mousev1.metrics.population_scores import Truth, deviance_explained, pooled_scores, transfer_scores
from mousev1.metrics.score_names import MODEL_SCORES
from mousev1.metrics.unit_scores import correlation
from mousev1.plot import learning_curve
from small import simulate

IMAGES = (60, 300)


@pytest.fixture(scope="module")
def made():
    return simulate(units=6)


@pytest.fixture(scope="module")
def truth(made):
    return Truth(made.scan.image_ids, made.rates, np.array([False] + [True] * 5))


@pytest.fixture(scope="module")
def curve(made, truth) -> LearningCurve:
    """Two draws of five of the six neurons."""
    return transfer_curve(
        made.core, made.scan, images=IMAGES, units=5, partitions=2, truth=truth, progress=False
    )


def mean(curve: LearningCurve, name: str, images: int, score: str = "true_rate_correlation") -> float:
    return curve.interval(name, images, score).mean


def test_the_core_that_made_the_responses_is_ahead_of_every_baseline(curve):
    # oracle: simulated truth
    assert curve.representations == ("random-0", "random core", "linear-nonlinear", "mean response")
    assert mean(curve, "random-0", 300) > 0.8
    for images, baseline in ((60, "random core"), (300, "random core"), (300, "linear-nonlinear")):
        assert mean(curve, "random-0", images) > mean(curve, baseline, images) + 0.03
    assert mean(curve, "random-0", 300) > mean(curve, "random-0", 60)


def test_every_row_is_there_once_with_its_neurons(curve):
    conditions = [(row.representation, row.images, row.partition) for row in curve.rows]
    assert len(conditions) == len(set(conditions)) == 4 * 2 * 2
    assert {row.units for row in curve.rows} == {5}
    assert curve.units_drawn


def test_the_mean_response_has_no_correlation_and_explains_nothing(curve):
    for row in curve.rows:
        if row.representation == "mean response":
            assert math.isnan(row.single_trial_correlation)
            assert row.undefined_units == 5
            assert row.deviance_explained == pytest.approx(0.0, abs=1e-6)
    assert mean(curve, "random-0", 300, "deviance_explained") > 0.3
    assert mean(curve, "random-0", 300, "feve") > 0.6


def test_scores_are_those_of_a_model_fitted_by_hand(made, truth, curve):
    # oracle: fit_readout, ResponseModel.score and the true rates on the same draw
    random = np.random.default_rng((0, 1))
    image_seed = int(random.integers(2**31))
    index = np.sort(random.permutation(6)[:5])
    scan = training_subset(made.scan.select_units(index), 60, image_seed)
    train, test = scan.trials("train"), scan.trials("test")
    model = mousev1.fit_readout(train.images, train.responses, scan.positions, core=made.core, progress=False)
    table = model.score(test.images, test.responses, test.image_ids)
    (row,) = (
        row for row in curve.rows if (row.representation, row.images, row.partition) == ("random-0", 60, 1)
    )
    assert row.single_trial_correlation == pytest.approx(np.mean(table.single_trial_correlation), abs=1e-6)
    assert row.correlation_to_average == pytest.approx(np.mean(table.correlation_to_average), abs=1e-6)
    assert row.fraction_oracle == pytest.approx(table.fraction_oracle, abs=1e-6)
    rates = model.predict(test.images)
    # every test image is repeated equally often, so that trials stand for images
    true = truth.of_images(test.image_ids)[:, index]
    found = correlation(rates, true)[truth.live[index]]
    assert row.true_rate_correlation == pytest.approx(found.mean(), abs=1e-6)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(made, truth, curve):
    options = {"images": [60], "units": 5, "truth": truth, "baselines": False, "progress": False}
    again = transfer_curve(made.core, made.scan, partitions=1, **options)
    (row,) = again.rows
    (first,) = (r for r in curve.rows if (r.representation, r.images, r.partition) == ("random-0", 60, 0))
    assert replace(row, seconds=0.0) == replace(first, seconds=0.0)
    (other,) = transfer_curve(made.core, made.scan, partitions=1, seed=1, **options).rows
    assert other.single_trial_correlation != row.single_trial_correlation


@pytest.fixture
def seen(monkeypatch) -> list[mousev1.Scan]:
    """The scans that fits are given; they cost nothing."""
    scans: list[mousev1.Scan] = []

    def fit(core, options):
        def remember(scan, seed):
            scans.append(scan)
            return lambda images: np.ones((len(images), scan.n_units), np.float32)

        return remember

    monkeypatch.setattr(transfer, "_readout_fit", fit)
    monkeypatch.setattr(transfer, "_linear_fit", fit(None, None))
    return scans


def test_fits_are_given_nested_draws_of_training_images_alike_for_all_representations(made, seen):
    # oracle: sets of image ids, and the pixels behind them
    transfer_curve(made.core, made.scan, images=[20, 50], partitions=2, progress=False)
    ids = [frozenset(scan.trials("train").image_ids.tolist()) for scan in seen]
    assert [len(drawn) for drawn in ids] == [20, 20, 20, 50, 50, 50] * 2
    for small, large in ((ids[:3], ids[3:6]), (ids[6:9], ids[9:])):
        assert len(set(small)) == len(set(large)) == 1
        assert small[0] < large[0]
    assert ids[0] != ids[6]
    held = {
        tier: {image.tobytes() for image in made.scan.trials(tier).images} for tier in ("validation", "test")
    }
    for scan in seen:
        pixels = {image.tobytes() for image in scan.trials("train").images}
        assert not pixels & held["validation"]
        assert not pixels & held["test"]


def test_all_images_and_all_neurons_are_fitted_once(made, seen):
    found = transfer_curve(made.core, made.scan, images=[20, 300], partitions=3, progress=False)
    assert [row.partition for row in found.rows if row.images == 300] == [0] * 4
    assert [row.partition for row in found.rows if row.images == 20] == [0] * 4 + [1] * 4 + [2] * 4
    assert math.isnan(found.interval("random core", 300, "deviance_explained").low)


def test_without_cortex_fits_are_given_no_positions(made, seen):
    found = transfer_curve(
        made.core, made.scan, images=[20], partitions=1, cortex=False, progress=False, baselines=False
    )
    assert seen[0].positions is None
    assert "without cortical positions" in found.title()


def test_the_default_counts_are_the_papers_as_far_as_the_scan_goes(made, seen):
    found = transfer_curve(made.core, made.scan, partitions=1, progress=False, baselines=False)
    assert found.images == (50, 200)


def test_a_test_picture_among_the_training_pictures_is_refused(made):
    images = made.scan.images.copy()
    images[0] = images[-1]
    with pytest.raises(ValueError, match="scan: 1 pictures of tier 'test' are also in tier 'train'"):
        transfer_curve(made.core, replace(made.scan, images=images), images=[20], progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": [5]}, r"images: expected numbers from 10 to 300, .* got \[5\]"),
        ({"images": [301]}, "images: expected numbers from 10 to 300"),
        ({"images": []}, "images: expected numbers from 10 to 300"),
        ({"units": 7}, "units: expected 1 to 6, the scan's neurons, got 7"),
        ({"partitions": 0}, "partitions: expected at least 1, got 0"),
        (
            {"truth": Truth(np.arange(3), np.ones((3, 2)), np.ones(2, bool))},
            r"truth: expected rates of \(3, 6\)",
        ),
    ],
)
def test_what_the_scan_cannot_give_is_refused(made, options, message):
    with pytest.raises(ValueError, match=message):
        transfer_curve(made.core, made.scan, progress=False, **options)


def test_a_plain_module_is_told_to_be_wrapped_and_a_name_to_be_loaded(made):
    with pytest.raises(TypeError, match=r"got the torch module Conv2d, .* wrap it: mousev1.Representation\("):
        transfer_curve(nn.Conv2d(1, 4, 5), made.scan)
    with pytest.raises(TypeError, match=r"got str; mousev1\.load_core loads a core by name"):
        transfer_curve("11-S", made.scan)
    named = mousev1.Core.random(made.core.config, seed=0)
    named.name = "mean response"
    with pytest.raises(ValueError, match="not a baseline's"):
        transfer_curve(named, made.scan)


def test_the_random_core_has_the_same_shape_other_weights_and_z_scored_images(made):
    # oracle: mean and standard deviation of the training images
    random = transfer._random_core(made.core.config, made.scan, 0)
    gray = made.scan.trials("train").images.astype(float)
    contract = random.config.input
    assert (contract.mean, contract.std) == pytest.approx((gray.mean(), gray.std()), rel=1e-6)
    assert replace(random.config, input=made.core.config.input) == made.core.config
    assert random.content_hash() != mousev1.Core.random(random.config, seed=0).content_hash()
    scored = replace(made.core.config, input=mousev1.InputContract(mean=113.0, std=60.0))
    assert transfer._random_core(scored, made.scan, 0).config == scored


def test_any_module_is_compared_once_it_is_wrapped(made):
    # oracle: fit_readout on the same representation and images
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(1, 5, 7), nn.ELU())
    contract = mousev1.InputContract(mean=113.0, std=60.0, height=16, width=24)
    rival = mousev1.Representation(module, name="rival", input=contract)
    found = transfer_curve(rival, made.scan, images=[300], partitions=1, baselines=False, progress=False)
    (only,) = found.rows
    model = mousev1.fit_scan(made.scan, core=rival, progress=False)
    test = made.scan.trials("test")
    table = model.score(test.images, test.responses, test.image_ids)
    assert only.representation == "rival"
    assert only.fraction_oracle == pytest.approx(table.fraction_oracle, abs=1e-3)


def test_truth_must_hold_every_test_image():
    known = Truth(np.array([1, 2]), np.ones((2, 1)), np.array([True]))
    with pytest.raises(ValueError, match=r"truth: no rates of 1 images \('7'\)"):
        known.of_images(np.array([2, 7]))


def test_deviance_explained_is_the_one_computed_by_hand():
    # oracle: D(r) = 2 sum(y log(y / r) - y + r) for two trials, y = 1, 3; 1 - D(rates) / D(mean)
    responses, rates, average = np.array([[1.0], [3.0]]), np.array([[1.5], [2.0]]), np.array([2.0])
    deviance = [
        sum(y * math.log(y / r) - y + r for y, r in zip((1, 3), predicted, strict=True))
        for predicted in ((1.5, 2.0), (2.0, 2.0))
    ]
    expected = 1 - deviance[0] / deviance[1]
    assert deviance_explained(rates, responses, average)[0] == pytest.approx(expected)
    scaled = deviance_explained(7 * rates, 7 * responses, 7 * average)
    assert scaled[0] == pytest.approx(expected)
    assert deviance_explained(responses, responses, average)[0] == pytest.approx(1.0)
    assert deviance_explained(np.full((2, 1), 2.0), responses, average)[0] == 0.0
    assert np.isnan(deviance_explained(rates, responses, np.array([0.0]))[0])
    assert np.isnan(deviance_explained(rates, np.full((2, 1), 2.0), average)[0])


def test_scores_of_several_scans_are_those_of_all_their_neurons_together(made, truth):
    # oracle: the same neurons as one scan; the truth knows nothing of the second part
    parts = [np.array([0, 1, 2, 3]), np.array([4, 5])]
    scans, truths = [made.scan.select_units(part) for part in parts], [truth.select_units(parts[0]), None]
    rates = truth.of_images(made.scan.trials("test").image_ids)
    rates = rates + np.random.default_rng(0).random(rates.shape)
    pooled = pooled_scores([rates[:, part] for part in parts], scans, truths)
    together = transfer_scores(rates, made.scan, truth)
    assert set(pooled) == {*MODEL_SCORES, "undefined_units"}
    for name in set(pooled) - {"true_rate_correlation"}:
        assert pooled[name] == pytest.approx(together[name]), name
    first = transfer_scores(rates[:, parts[0]], scans[0], truths[0])
    assert pooled["true_rate_correlation"] == pytest.approx(first["true_rate_correlation"])


# ---------------------------------------------------------------- results


def row(name: str, images: int, partition: int, value: float, **changes) -> CurveRow:
    found = CurveRow(name, images, partition, 9, 1.0, *[value] * 5, math.nan, 0)
    return replace(found, **changes)


def curve_of(*rows: CurveRow, **changes) -> LearningCurve:
    return LearningCurve(rows, **{"scan": "s", "cortex": True, "units_drawn": False, "oracle": 0.3} | changes)


def test_a_table_says_mean_and_interval_and_what_is_undefined():
    # oracle: mean .6 and half width .248 as computed by hand in test_intervals
    found = curve_of(
        *(row("mine", 50, i, value) for i, value in enumerate((0.5, 0.6, 0.7))),
        row("mean response", 50, 0, math.nan, undefined_units=9),
    )
    lines = found.table().splitlines()
    assert lines[0] == "s, 9 neurons, with cortical positions"
    assert "3 random draws of images" in lines[1]
    assert lines[3].split() == ["mine", "0.600", "±", "0.248"]
    assert lines[4].split() == ["mean", "response", "-"]
    assert lines[5] == "correlations are undefined for up to 9 neurons of 'mean response'"
    with pytest.raises(ValueError, match="score: expected one of"):
        found.table("accuracy")
    with pytest.raises(ValueError, match="got 'mine' at 60"):
        found.interval("mine", 60)


def test_simulated_responses_are_called_so_in_table_and_figure(curve):
    assert curve.table().startswith("Simulated responses: small")
    assert learning_curve(curve).get_suptitle().startswith("Simulated responses: small")
    assert "imulated" not in curve_of(row("a", 50, 0, 0.5)).title()


def test_csv_holds_every_row(curve, tmp_path):
    curve.to_csv(tmp_path / "curve.csv")
    with open(tmp_path / "curve.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(curve.rows)
    for text, kept in zip(found, curve.rows, strict=True):
        assert (text["representation"], int(text["images"])) == (kept.representation, kept.images)
        for score in MODEL_SCORES:
            assert float(text[score]) == pytest.approx(getattr(kept, score), nan_ok=True)


def test_a_figure_shows_means_and_intervals(curve):
    # oracle: the intervals
    axis, *others = learning_curve(curve).axes
    assert [axis.get_ylabel(), *(other.get_ylabel() for other in others)] == [
        "fraction oracle",
        "Poisson deviance explained",
        "correlation with the true rate",
    ]
    drawn = {container.get_label(): container for container in axis.containers}
    assert sorted(drawn) == ["linear-nonlinear", "random core", "random-0"]  # a mean has no correlation
    line, _, (bars,) = drawn["random-0"]
    assert line.get_xdata().tolist() == [60, 300]
    for images, value, segment in zip(IMAGES, line.get_ydata(), bars.get_segments(), strict=True):
        interval = curve.interval("random-0", images)
        assert value == pytest.approx(interval.mean)
        assert segment[:, 1].tolist() == pytest.approx([interval.low, interval.high])


def test_curves_of_one_scan_are_combined_and_others_refused():
    one, two = curve_of(row("a", 50, 0, 0.5)), curve_of(row("b", 50, 0, 0.6))
    assert combine([one, two]).representations == ("a", "b")
    with pytest.raises(ValueError, match="every representation once"):
        combine([one, one])
    apart = ({"scan": "t"}, {"seed": 1}, {"cortex": False}, {"units_drawn": True}, {"simulated": True})
    others = [curve_of(row("b", 50, 0, 0.6), **change) for change in apart]
    for other in (curve_of(row("b", 60, 0, 0.6)), *others):
        with pytest.raises(ValueError, match="curves: expected the same scan"):
            combine([one, other])
    with pytest.raises(ValueError, match="at least one"):
        combine([])


def test_a_curve_read_back_from_its_file_is_the_curve_itself(curve, tmp_path):
    curve.to_csv(tmp_path / "curve.csv")
    read = read_curve(tmp_path / "curve.csv")
    assert str(read) == str(curve)  # as text, because an undefined score does not equal itself
    assert read.table() == curve.table()


def test_curves_read_from_files_are_joined_and_their_equal_baselines_kept_once(tmp_path):
    for name, value, seconds in (("a", 0.5, 1.0), ("b", 0.7, 2.0)):
        baseline = row("mean response", 50, 0, 0.1, seconds=seconds)
        curve_of(row(name, 50, 0, value), baseline).to_csv(tmp_path / f"{name}.csv")
    curves = [read_curve(tmp_path / f"{name}.csv") for name in "ab"]
    joined = combine(curves)
    assert joined.representations == ("a", "mean response", "b")
    assert joined.difference("b", "a", 50).mean == pytest.approx(0.2)
    other = curve_of(row("c", 50, 0, 0.5), row("mean response", 50, 0, 0.2))
    with pytest.raises(ValueError, match=r"every representation once.*select"):
        combine([*curves, other])
    assert combine([*curves, other.select("c")]).representations == ("a", "mean response", "b", "c")


def test_files_that_are_no_curve_are_refused_with_what_is_missing(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text("representation,images\na,50\n")
    with pytest.raises(ValueError, match="missing 'partition', 'units'"):
        read_curve(path)
    curve_of(row("a", 50, 0, 0.5)).to_csv(path)
    text = path.read_text()
    path.write_text(text.replace("a,50,", "a,many,"))
    with pytest.raises(ValueError, match="expected numbers"):
        read_curve(path)
    path.write_text(text + text.splitlines()[1].replace(",s,", ",t,") + "\n")
    with pytest.raises(ValueError, match="rows of one curve"):
        read_curve(path)


def test_a_difference_is_taken_within_draws_so_that_what_draws_share_cancels(tmp_path):
    # oracle: by hand; differences .1, .1, .1, of means whose own intervals are .248 wide to each side
    values = (0.5, 0.6, 0.7)
    found = curve_of(
        *(row("a", 50, i, value + 0.1) for i, value in enumerate(values)),
        *(row("b", 50, i, value) for i, value in enumerate(values)),
        row("mean response", 50, 0, math.nan),
    )
    difference = found.difference("a", "b", 50)
    assert (difference.mean, difference.count) == (pytest.approx(0.1), 3)
    assert difference.half_width == pytest.approx(0.0, abs=1e-12)
    assert found.interval("a", 50).half_width == pytest.approx(0.248, abs=1e-3)
    assert found.difference("b", "a", 50).mean == pytest.approx(-0.1)
    assert difference_table(found).splitlines()[-1].split() == ["a", "minus", "b", "0.100", "±", "0.000"]
    columns = difference_columns(found)
    assert columns["difference"] == pytest.approx([0.1] * 5)
    assert set(columns["draws"]) == {3}
    with pytest.raises(ValueError, match="got 'c' at 50"):
        found.difference("a", "c", 50)

"""Scores against numbers worked out by hand, and against plain loops over units."""

from __future__ import annotations

import csv
import json
import os
import time

import numpy as np
import pytest

from mousev1 import metrics
from mousev1.metrics import unit_scores

# One unit, two images shown twice: A gives 1 and 3, B gives 5 and 7.
EVEN = np.array([[1.0], [3.0], [5.0], [7.0]])
EVEN_IDS = np.array(["A", "A", "B", "B"])

# One unit, ragged repeats, trials out of order: A gives 1, 2, 3; B gives 4, 6; C gives 10 once.
RAGGED = np.array([[4.0], [1.0], [10.0], [2.0], [6.0], [3.0]])
RAGGED_IDS = np.array([7, 3, 9, 3, 7, 3])


def made_up(*, units: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions and responses of 12 images with 1 to 6 repeats in mixed order."""
    generator = np.random.default_rng(seed)
    ids = generator.permutation(np.repeat(np.arange(12) * 5, [1, 2, 3, 4, 5, 6, 6, 5, 4, 3, 2, 1]))
    rates = generator.gamma(2.0, 1.0, (12, units))[ids // 5]
    responses = generator.poisson(rates).astype(np.float32)
    return (rates * generator.uniform(0.5, 1.5, units)).astype(np.float32), responses, ids


def test_correlation_of_hand_computed_numbers():
    # deviations (-1, 0, 1) and (-1, 1, 0): sum of products 1, sums of squares 2 and 2
    assert metrics.correlation([1, 2, 3], [0, 2, 1]) == pytest.approx(0.5)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_correlation_equals_numpy_corrcoef_along_any_axis(axis):
    a, b = np.random.default_rng(1).normal(size=(2, 4, 5, 6))
    got = metrics.correlation(a, b, axis=axis)
    rows_a, rows_b = (np.moveaxis(x, axis, -1) for x in (a, b))
    assert got.shape == rows_a.shape[:-1]
    for index in np.ndindex(got.shape):
        assert got[index] == pytest.approx(np.corrcoef(rows_a[index], rows_b[index])[0, 1], abs=1e-12)


def test_a_constant_unit_has_no_correlation_even_when_its_mean_rounds():
    # 0.1 summed three times and divided by three is not 0.1 in float64
    constant = np.full((3, 1), 0.1)
    assert constant.mean() != 0.1
    varied = np.array([[1.0], [2.0], [4.0]])
    assert np.isnan(metrics.single_trial_correlation(constant, varied)).all()
    assert np.isnan(metrics.single_trial_correlation(varied, constant)).all()


def test_a_tiny_but_true_variation_on_a_large_mean_is_no_constant():
    # 1 ulp of float32 around 1000 is 6e-5
    values = np.array([[1000.0], [1000.0], [np.nextafter(np.float32(1000), np.float32(2000))]], np.float32)
    assert metrics.single_trial_correlation(values, [[0.0], [0.0], [5.0]]) == pytest.approx(1.0)


def test_a_unit_with_a_missing_response_is_undefined_and_leaves_the_others_alone():
    predictions, responses, ids = made_up()
    expected = metrics.score_table(predictions, responses, ids, np.arange(6))
    responses[3, 2] = np.nan
    table = metrics.score_table(predictions, responses, ids, np.arange(6))
    others = [0, 1, 3, 4, 5]
    for name in list(table.columns)[1:]:
        assert np.isnan(table[name][2]), name
        np.testing.assert_array_equal(table[name][others], expected[name][others])


def test_no_trials_and_one_trial_give_nan():
    for trials in (0, 1):
        nothing = np.zeros((trials, 3))
        table = metrics.score_table(nothing, nothing, np.zeros(trials), np.arange(3))
        assert all(np.isnan(table[name]).all() for name in list(table.columns)[1:])


def test_oracle_of_two_repeats_by_hand():
    # the other repeat of (1, 3, 5, 7) is (3, 1, 7, 5); deviations from 4: (-3, -1, 1, 3) and
    # (-1, -3, 3, 1), sum of products 12, sums of squares 20 and 20
    assert metrics.oracle_correlation(EVEN, EVEN_IDS) == pytest.approx(12 / 20)


def test_oracle_of_ragged_repeats_by_hand_leaves_out_the_image_shown_once():
    # trials 1, 2, 3, 4, 6 against others' means 2.5, 2, 1.5, 6, 4; both average 3.2;
    # sum of products 7.8, sums of squares 14.8 and 13.3
    expected = 7.8 / np.sqrt(14.8 * 13.3)
    assert metrics.oracle_correlation(RAGGED, RAGGED_IDS) == pytest.approx(expected)


def test_correlation_to_average_of_ragged_repeats_by_hand():
    # averages 2, 5, 10 against predictions 1, 2, 6 (A, B, C): products about the means 21,
    # squares 98/3 and 14
    predictions = np.array([[2.0], [1.0], [6.0], [1.0], [2.0], [1.0]])
    got = metrics.correlation_to_average(predictions, RAGGED, RAGGED_IDS)
    assert got == pytest.approx(21 / np.sqrt(98 / 3 * 14))


def test_fev_by_hand():
    # variances with n - 1: of 1, 3, 5, 7 it is 20/3; within A and within B it is 2
    assert metrics.fev(EVEN, EVEN_IDS) == pytest.approx((20 / 3 - 2) / (20 / 3))
    # of 1, 2, 3, 4, 6 it is 3.7; within A it is 1, within B 2, and images count equally: 1.5
    assert metrics.fev(RAGGED, RAGGED_IDS) == pytest.approx(2.2 / 3.7)


def test_feve_by_hand():
    # predictions at the images' averages: mean squared error 1
    averages = np.array([[2.0], [2.0], [6.0], [6.0]])
    assert metrics.feve(averages, EVEN, EVEN_IDS) == pytest.approx(1 - (1 - 2) / (20 / 3 - 2))
    # the same for A and B of the ragged example (C plays no part): errors 1, 0, 1, 1, 1
    averages = np.array([[5.0], [2.0], [99.0], [2.0], [5.0], [2.0]])
    assert metrics.feve(averages, RAGGED, RAGGED_IDS) == pytest.approx(1 - (0.8 - 1.5) / 2.2)


def test_feve_is_undefined_where_noise_exceeds_the_total_variance():
    # both images give 0 and 4: total variance 16/3, noise 8
    responses = np.array([[0.0], [4.0], [0.0], [4.0]])
    assert metrics.fev(responses, EVEN_IDS) == pytest.approx(1 - 8 / (16 / 3))
    assert np.isnan(metrics.feve(responses, responses, EVEN_IDS)).all()


def test_fev_and_feve_recover_a_simulated_truth():
    # rates of variance 1 across images and noise of variance 3: a quarter is explainable
    generator = np.random.default_rng(2)
    ids = np.repeat(np.arange(400), 20)
    rates = np.repeat(generator.normal(size=(400, 50)), 20, axis=0)
    responses = rates + np.sqrt(3.0) * generator.normal(size=rates.shape)
    assert metrics.fev(responses, ids).mean() == pytest.approx(0.25, abs=0.01)
    assert metrics.feve(rates, responses, ids).mean() == pytest.approx(1.0, abs=0.02)
    # half the rate misses a quarter of the signal's variance
    assert metrics.feve(0.5 * rates, responses, ids).mean() == pytest.approx(0.75, abs=0.02)
    assert metrics.feve(np.zeros_like(rates), responses, ids).mean() == pytest.approx(0.0, abs=0.02)


def test_an_explainable_variance_within_rounding_of_0_has_no_fraction():
    # two repeats of two images, a, b and a + d, b + d: total (with n - 1) is (2 (a - b)^2 / 2 + d^2) / 3 and noise
    # (a - b)^2 / 2, the same for d = |a - b| / sqrt(2); what is left in float64 is rounding
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 2000))
    d = np.abs(a - b) / np.sqrt(2)
    ids = np.array([0, 0, 1, 1])
    responses = np.stack([a, b, a + d, b + d])
    explained = metrics.feve(np.zeros_like(responses), responses, ids)
    assert np.isnan(explained).all()


@pytest.mark.parametrize("repeats", [2, 10])
def test_ccnorm_is_the_correlation_with_the_true_rates(repeats):
    generator = np.random.default_rng(0)
    rates = generator.normal(size=(100, 400))
    predictions = 0.5 * rates + generator.normal(scale=0.5, size=rates.shape)
    ids = np.repeat(np.arange(100), repeats)
    responses = rates[ids] + generator.normal(size=(len(ids), 400))
    found = metrics.ccnorm(predictions[ids], responses, ids)
    assert found.mean() == pytest.approx(metrics.correlation(predictions, rates).mean(), abs=0.01)
    raw = metrics.correlation_to_average(predictions[ids], responses, ids)
    assert found.mean() > raw.mean() + (0.1 if repeats == 2 else 0.02)


def test_the_bias_of_feve_with_few_repeats_is_the_one_told():
    generator = np.random.default_rng(0)
    rates = np.sqrt(0.2) * generator.normal(size=(100, 2000))
    predictions = 0.5 * rates + np.sqrt(0.05) * generator.normal(size=rates.shape)
    for repeats, measured in ((2, 0.41), (4, 0.46), (10, 0.50)):
        ids = np.repeat(np.arange(100), repeats)
        responses = rates[ids] + generator.normal(size=(len(ids), 2000))
        explained = metrics.feve(predictions[ids], responses, ids)
        assert explained[metrics.fev(responses, ids) > 0.15].mean() == pytest.approx(measured, abs=0.015)


def test_fraction_oracle_is_the_least_squares_slope_and_counts_who_is_left_out():
    # (1 * 0.8 + 0.5 * 0.6) / (1 + 0.25); the last two units lack one of the correlations
    fit = metrics.fit_fraction_oracle([0.8, 0.6, 0.9, np.nan], [1.0, 0.5, np.nan, 0.2])
    assert fit == metrics.FractionOracle(slope=pytest.approx(1.1 / 1.25), n_units=2, n_undefined=2)
    assert metrics.fraction_oracle([0.8, 0.6], [1.0, 0.5]) == pytest.approx(0.88)
    model, oracle = np.random.default_rng(3).uniform(0, 1, (2, 100))
    expected = np.linalg.lstsq(oracle[:, None], model, rcond=None)[0][0]
    assert metrics.fraction_oracle(model, oracle) == pytest.approx(expected)


def test_fraction_oracle_without_a_defined_unit_is_nan():
    fit = metrics.fit_fraction_oracle([np.nan, 0.5], [0.5, np.nan])
    assert np.isnan(fit.slope)
    assert (fit.n_units, fit.n_undefined) == (0, 2)
    assert np.isnan(metrics.fraction_oracle([0.5], [0.0]))


def test_poisson_loss_by_hand():
    # (1 - 0 log 1 + e - 2 log e) / 2
    assert metrics.poisson_loss([[1.0], [np.e]], [[0.0], [2.0]]) == pytest.approx((np.e - 1) / 2)


def test_poisson_loss_at_the_edges_of_its_domain():
    rates = np.array([[0.0, 0.0, -1.0]])
    np.testing.assert_array_equal(metrics.poisson_loss(rates, [[0.0, 1.0, 0.0]]), [0.0, np.inf, np.nan])


def test_every_score_equals_a_plain_loop_over_units_on_ragged_repeats():
    predictions, responses, ids = made_up()
    table = metrics.score_table(predictions, responses, ids, np.arange(6))
    for unit in range(6):
        p, y = predictions[:, unit].astype(float), responses[:, unit].astype(float)
        shown = {i: y[ids == i] for i in np.unique(ids)}
        repeated = {i: values for i, values in shown.items() if len(values) > 1}
        singles = np.concatenate(list(repeated.values()))
        others = np.concatenate([[np.delete(v, k).mean() for k in range(len(v))] for v in repeated.values()])
        total = np.var(singles, ddof=1)
        noise = np.mean([np.var(v, ddof=1) for v in repeated.values()])
        error = np.mean(np.concatenate([(p[ids == i] - v) ** 2 for i, v in repeated.items()]))
        averages = [v.mean() for v in shown.values()]
        means, mean_rates = [v.mean() for v in repeated.values()], [p[ids == i].mean() for i in repeated]
        signal = np.var(means, ddof=1) - noise * np.mean([1 / len(v) for v in repeated.values()])
        expected = {
            "single_trial_correlation": np.corrcoef(p, y)[0, 1],
            "correlation_to_average": np.corrcoef([p[ids == i].mean() for i in shown], averages)[0, 1],
            "oracle_correlation": np.corrcoef(singles, others)[0, 1],
            "fev": (total - noise) / total,
            "feve": 1 - (error - noise) / (total - noise),
            "ccnorm": np.cov(mean_rates, means)[0, 1] / np.std(mean_rates, ddof=1) / signal**0.5,
        }
        for name, value in expected.items():
            assert table[name][unit] == pytest.approx(value, abs=1e-12), name


def test_scores_do_not_depend_on_the_block_size(monkeypatch):
    predictions, responses, ids = made_up(units=7)
    expected = metrics.score_table(predictions, responses, ids, np.arange(7))
    monkeypatch.setattr(unit_scores, "BLOCK_ELEMENTS", 3 * len(ids))
    table = metrics.score_table(predictions, responses, ids, np.arange(7))
    for name, column in expected.columns.items():
        np.testing.assert_allclose(table[name], column, rtol=0, atol=1e-14)


def test_scores_do_not_depend_on_the_order_of_trials_or_the_type_of_ids():
    predictions, responses, ids = made_up()
    expected = metrics.score_table(predictions, responses, ids, np.arange(6))
    shuffled = np.random.default_rng(4).permutation(len(ids))
    names = np.array([f"image-{i}" for i in ids])[shuffled]
    table = metrics.score_table(predictions[shuffled], responses[shuffled], names, np.arange(6))
    for name, column in expected.columns.items():
        np.testing.assert_allclose(table[name], column, rtol=0, atol=1e-12)


def test_without_repeats_only_the_single_trial_correlation_is_defined():
    predictions, responses, _ = made_up()
    table = metrics.score_table(predictions, responses, np.arange(len(responses)), np.arange(6))
    assert np.isfinite(table.single_trial_correlation).all()
    for name in ("correlation_to_average", "oracle_correlation", "fev", "feve", "ccnorm"):
        assert np.isnan(table[name]).all(), name
    assert np.isnan(table.fraction_oracle)
    assert "no image was repeated" in table.summary()


def test_summary_averages_defined_units_and_counts_the_others():
    predictions, responses, ids = made_up()
    responses[:, 4] = 2.5
    table = metrics.score_table(predictions, responses, ids, np.arange(6))
    line = next(line for line in table.summary().splitlines() if "single-trial" in line)
    expected = np.mean(np.delete(table.single_trial_correlation, 4))
    assert f"{expected:.3f}" in line
    assert "(1 neuron left out)" in line
    assert len(table) == 6
    assert "-" in str(table).splitlines()[5].split()


def test_the_mean_feve_leaves_out_units_without_explainable_variance():
    table = metrics.ScoreTable(
        unit_ids=np.arange(4),
        single_trial_correlation=np.full(4, 0.5),
        correlation_to_average=np.full(4, 0.5),
        oracle_correlation=np.full(4, 0.5),
        fev=np.array([0.4, 0.001, 0.2, np.nan]),
        feve=np.array([0.8, -5000.0, 0.6, np.nan]),
        ccnorm=np.full(4, 0.5),
    )
    line = next(line for line in table.summary().splitlines() if "FEVE" in line)
    assert line.split()[-5:] == ["0.700", "(2", "neurons", "left", "out)"]
    assert table.feve[1] == -5000.0


def test_a_table_of_uneven_columns_is_refused():
    scores = np.zeros(3)
    with pytest.raises(ValueError, match=r"fev: expected \(3,\), one per neuron, got \(2,\)"):
        metrics.ScoreTable(np.arange(3), scores, scores, scores, scores[:2], scores, scores)


def test_table_columns_by_name():
    predictions, responses, ids = made_up()
    table = metrics.score_table(predictions, responses, ids, np.arange(6) + 100)
    assert table["unit_id"].tolist() == [100, 101, 102, 103, 104, 105]
    assert list(table.columns) == list(table.to_dict())
    with pytest.raises(KeyError, match="no column 'score'; there are unit_id, single_trial_correlation"):
        table["score"]


def test_csv_and_dict_hold_every_number(tmp_path):
    predictions, responses, ids = made_up()
    responses[:, 1] = 0.0
    table = metrics.score_table(predictions, responses, ids, np.arange(6))
    table.to_csv(tmp_path / "scores.csv")
    with open(tmp_path / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    values = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    for name, column in table.columns.items():
        np.testing.assert_array_equal([float(row[name]) for row in rows], column)
        np.testing.assert_array_equal(np.array(values[name], dtype=float), column)
    assert values["fev"][1] is None


def test_an_interrupted_csv_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    predictions, responses, ids = made_up()
    table = metrics.score_table(predictions, responses, ids, np.arange(6))
    target = tmp_path / "scores.csv"
    target.write_text("old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        table.to_csv(target)
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["scores.csv"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"predictions": np.zeros((4, 2))}, ValueError, r"predictions: expected \(T, U\) = \(4, 1\)"),
        ({"predictions": np.zeros(4)}, ValueError, r"predictions: expected \(T, U\), trials by neurons"),
        ({"predictions": np.array([["a"]] * 4)}, TypeError, "predictions: expected real numbers"),
        ({"responses": np.zeros((4, 1, 1))}, ValueError, r"responses: expected \(T, U\)"),
        ({"image_ids": [1, 2]}, ValueError, r"image_ids: expected \(4,\), one per trial, got \(2,\)"),
        ({"unit_ids": [1, 2]}, ValueError, r"unit_ids: expected \(1,\), one per column of responses"),
    ],
)
def test_wrong_shapes_are_named(change, error, message):
    good = {"predictions": EVEN, "responses": EVEN, "image_ids": EVEN_IDS, "unit_ids": [1]}
    with pytest.raises(error, match=message):
        metrics.score_table(**(good | change))


def test_wrong_shapes_of_correlation_and_fraction_oracle_are_named():
    with pytest.raises(ValueError, match=r"b: expected the shape of a, \(3,\), got \(2,\)"):
        metrics.correlation([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="axis: expected an axis"):
        metrics.correlation([1, 2, 3], [1, 2, 3], axis=1)
    with pytest.raises(ValueError, match=r"oracle: expected \(2,\)"):
        metrics.fraction_oracle([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match=r"model_correlation: expected \(U,\)"):
        metrics.fraction_oracle([[1, 2]], [[1, 2]])


def test_a_full_scan_is_scored_within_seconds():
    # 1,000 test trials of 5,335 neurons took 0.25 s; a loop over units would take over 5 s
    generator = np.random.default_rng(5)
    responses = generator.random((1000, 5335), dtype=np.float32)
    started = time.perf_counter()
    metrics.score_table(responses, responses, np.repeat(np.arange(100), 10), np.arange(5335))
    assert time.perf_counter() - started < 4.0


def test_a_mask_is_refused_and_not_dropped():
    # oracle: the correlation of what the mask leaves, which a hidden 9999 would change
    a, b = np.array([1.0, 2.0, 9999.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    hidden = np.ma.masked_greater(a, 9000)
    with pytest.raises(ValueError, match="a: expected every value, got a masked array with 1 of 4"):
        metrics.correlation(hidden, b)
    keep = ~hidden.mask
    assert metrics.correlation(a[keep], b[keep]) == pytest.approx(np.corrcoef(a[keep], b[keep])[0, 1])
    with pytest.raises(ValueError, match=r"responses: .*masked"):
        metrics.single_trial_correlation(b[:, None], hidden[:, None])

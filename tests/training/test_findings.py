"""Whether the paper's findings hold, on rows whose answer is known by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from benchmark_rows import across_animals, changed, make_row, within_animal

from training.paper_figures.comparisons import Comparison, Size, pool
from training.paper_figures.data_efficiency import images_needed, share_interval
from training.paper_figures.finding import FAILS, HOLDS, UNDECIDED, UNKNOWN, Finding, verdict_of
from training.paper_figures.findings import findings
from training.paper_figures.results import CONVEX, RECIPE, Results


def check(rows: list[dict[str, Any]], key: str, score: str = "fraction_oracle") -> Finding:
    """The only finding of that key."""
    (found,) = (finding for finding in findings(Results.of(rows), score) if finding.key == key)
    return found


def pair(better: dict[str, Any], worse: dict[str, Any], gaps: list[float]) -> list[dict[str, Any]]:
    """Rows of two conditions, one partition per gap; the first is ahead by it."""
    rows = []
    for partition, gap in enumerate(gaps):
        base = 0.5 + 0.05 * partition
        rows += [
            make_row(base, partition=partition, **worse),
            make_row(base + gap, partition=partition, **better),
        ]
    return rows


def core(label: str, core_set: str, **changes: Any) -> dict[str, Any]:
    return {
        "condition": "best-core/diff-readout",
        "core": label,
        "core_set": core_set,
        "method": "sgd",
        **changes,
    }


DIRECT: dict[str, Any] = {"condition": "direct", "method": "end-to-end"}
ELEVEN, ONE = core("11-S", "11-S"), core("1-S", "1-S")
MATCHED, DIFFERENT = core("4-S:matched", "4-S:matched"), core("4-S:diff", "4-S:diff-animals")
VGG, RANDOM_VGG = core("VGG16 (ImageNet)", ""), core("VGG16, random", "")
RANDOM = core("random-64", "")
BEST = core("4-S:matched", "4-S:matched", scope="within-animal")
DIFF = BEST | {"condition": "diff-core/best-readout"}

SIDES = {
    "gaussian-over-factorized": ({"readout": "gaussian"}, {"readout": "factorized"}),
    "sharing-helps-gaussian": ({"sharing": True}, {"sharing": False}),
    "sharing-hurts-factorized": (
        {"readout": "factorized", "sharing": False},
        {"readout": "factorized", "sharing": True},
    ),
    "best-core-over-diff-core": (BEST, DIFF),
    "11-S-over-4-S": (ELEVEN, MATCHED),
    "11-S-over-1-S": (ELEVEN, ONE),
    "11-S-over-direct": (ELEVEN, DIRECT),
    "11-S-over-VGG16": (ELEVEN, VGG),
    "4-S-over-direct": (DIFFERENT, DIRECT),
    "random-last": (ONE, RANDOM),
}


@pytest.mark.parametrize("key", SIDES)
def test_a_difference_holds_fails_or_is_undecided_by_its_interval(key):
    # oracle: gaps .02, .03, .04 have mean .03 and half width 4.3027 * .01 / sqrt(3) = .0248
    better, worse = SIDES[key]
    found = check(pair(better, worse, [0.02, 0.03, 0.04]), key)
    assert found.verdict == HOLDS
    assert found.effect.mean == pytest.approx(0.03)
    assert found.effect.half_width == pytest.approx(0.02484, abs=1e-4)
    assert (found.in_favour, found.compared, found.fit_method) == (1, 1, RECIPE)
    gains = [0.02 / 0.5, 0.03 / 0.55, 0.04 / 0.6]
    assert found.gain.mean == pytest.approx(sum(gains) / 3)
    assert found.gain_at == Size(50, 100)
    reversed_ = check(pair(worse, better, [0.02, 0.03, 0.04]), key)
    assert reversed_.verdict == FAILS
    assert reversed_.effect.mean == pytest.approx(-0.03)
    assert check(pair(better, worse, [-0.02, 0.03, 0.04]), key).verdict == UNDECIDED
    alone = check(pair(better, worse, [0.02]), key)
    assert alone.verdict == UNDECIDED
    assert alone.effect.mean == pytest.approx(0.02)


def test_without_rows_nothing_is_claimed():
    found = findings(Results.of([make_row(0.5)]))
    assert len(found) == 13
    assert {finding.verdict for finding in found} == {UNKNOWN}


def test_seeds_are_chosen_by_validation_not_by_test():
    # oracle: the seed with the better test score has the worse validation score
    rows = pair(ELEVEN, DIRECT, [0.02, 0.03, 0.04])
    rows += changed(
        [row for row in rows if row["core"] == "11-S"],
        lambda row: {"seed": 1, "fraction_oracle": 0.99, "validation_correlation": 0.01},
    )
    assert check(rows, "11-S-over-direct").effect.mean == pytest.approx(0.03)


def test_partitions_are_paired_and_those_of_one_side_only_are_left_out():
    rows = [*pair(ELEVEN, DIRECT, [0.02, 0.03, 0.04]), make_row(0.9, partition=7, **ELEVEN)]
    found = check(rows, "11-S-over-direct")
    assert found.effect.count == 3
    # partitions differ by .05, five times more than the gaps do: unpaired, this would be undecided
    assert found.verdict == HOLDS


def test_numbers_of_images_count_alike_and_those_with_one_partition_do_not_decide():
    # oracle: mean of .02 and .06 in each partition
    rows = pair(ELEVEN, DIRECT, [0.02, 0.02, 0.02])
    rows += pair(ELEVEN | {"images": 200}, DIRECT | {"images": 200}, [0.05, 0.06, 0.07])
    rows += pair(ELEVEN | {"images": 400}, DIRECT | {"images": 400}, [-0.4])
    found = check(rows, "11-S-over-direct")
    assert found.effect.mean == pytest.approx(0.04)
    assert found.effect.count == 3
    assert (found.in_favour, found.compared) == (2, 3)
    # the largest numbers of neurons and images are shown for what they are
    assert found.gain.count == 1
    assert found.gain_at is not None
    assert found.gain_at.images == 400


def test_other_numbers_of_images_neurons_or_other_readouts_are_not_compared():
    for change in ({"images": 200}, {"units": 60}, {"readout": "gaussian"}, {"scan": "another"}):
        rows = pair(ELEVEN | change, DIRECT, [0.02, 0.03, 0.04])
        assert check(rows, "11-S-over-direct").verdict == UNKNOWN


def test_matched_neurons_are_not_needed_if_others_are_hardly_worse():
    # oracle: intervals -.0024 ± .0014, -.03 ± .0248 and .03 ± .0248 against the margin of .01
    key = "matched-not-needed"
    hardly = check(pair(DIFFERENT, MATCHED, [-0.0018, -0.0024, -0.0030]), key)
    assert hardly.verdict == HOLDS
    assert hardly.effect.high < 0
    assert check(pair(DIFFERENT, MATCHED, [-0.02, -0.03, -0.04]), key).verdict == FAILS
    assert check(pair(DIFFERENT, MATCHED, [0.02, 0.03, 0.04]), key).verdict == HOLDS
    assert check(pair(DIFFERENT, MATCHED, [0.02, -0.03, 0.04]), key).verdict == UNDECIDED


def cortex_rows(few: list[float], many: list[float]) -> list[dict[str, Any]]:
    rows = []
    for images, gains in ((50, few), (200, many)):
        options = {**ELEVEN, "images": images}
        rows += pair({**options, "readout": "gaussian-cortex"}, {**options, "readout": "gaussian"}, gains)
    return rows


def test_cortex_must_help_at_few_images_and_more_than_at_many():
    key = "cortex-at-few-images"
    found = check(cortex_rows([0.10, 0.11, 0.12], [0.01, 0.01, 0.01]), key)
    assert found.verdict == HOLDS
    assert found.effect.mean == pytest.approx(0.10)
    assert check(cortex_rows([0.01, 0.011, 0.012], [0.1, 0.1, 0.1]), key).verdict == FAILS
    # it helps more at few images, but does not help
    assert check(cortex_rows([-0.01, -0.011, -0.012], [-0.1, -0.1, -0.1]), key).verdict == FAILS
    assert check(cortex_rows([0.01, -0.01, 0.02], [-0.1, -0.1, -0.1]), key).verdict == UNDECIDED
    random = changed(cortex_rows([0.1, 0.11, 0.12], [0.01] * 3), lambda row: {"core": "random-64"})
    assert check(random, key).verdict == UNKNOWN


def test_random_cores_are_last_only_if_the_best_of_them_is_behind_the_worst_of_the_others():
    rows = pair(ONE, RANDOM, [0.1, 0.11, 0.12]) + pair(ELEVEN, RANDOM_VGG, [0.3, 0.3, 0.3])
    assert check(rows, "random-last").effect.mean == pytest.approx(0.11)
    rows += changed(pair(VGG, VGG, [0.0] * 3), lambda row: {"fraction_oracle": row["fraction_oracle"] - 0.1})
    assert check(rows, "random-last").verdict == FAILS


def test_full_data_do_not_decide_between_best_core_and_diff_core():
    rows = pair(BEST, DIFF, [0.02, 0.03, 0.04])
    rows += pair(BEST | {"images": 900}, DIFF | {"images": 900}, [-0.4, -0.4, -0.4])
    found = check(rows, "best-core-over-diff-core")
    assert (found.verdict, found.compared) == (HOLDS, 1)
    assert "without 900 images" in found.note


def test_the_best_gaussian_variant_by_validation_is_compared_with_the_best_factorized_one():
    # oracle: .6 + gap, sharing, against .58, no sharing; the others are worse by validation
    rows = []
    for partition, gap in enumerate((0.01, 0.02, 0.03)):
        for readout, sharing, value in (
            ("gaussian-cortex", True, 0.6 + gap),
            ("gaussian-cortex", False, 0.5),
            ("gaussian", True, 0.55),
            ("factorized", False, 0.58),
            ("factorized", True, 0.4),
        ):
            rows.append(make_row(value, readout=readout, sharing=sharing, partition=partition))
    found = check(rows, "gaussian-over-factorized")
    assert found.effect.mean == pytest.approx(0.04)


def test_each_way_to_fit_is_judged_by_itself_and_direct_models_serve_both():
    rows = pair(ELEVEN, DIRECT, [0.02, 0.03, 0.04])
    rows += pair(ELEVEN | {"method": "convex"}, DIRECT, [-0.02, -0.03, -0.04])[1::2]
    found = [f for f in findings(Results.of(rows)) if f.key == "11-S-over-direct"]
    assert [(f.fit_method, f.verdict) for f in found] == [(RECIPE, HOLDS), (CONVEX, FAILS)]
    assert found[0].note == ""
    assert "direct models keep the readout they were trained with" in found[1].note
    refit = changed(rows[:6:2], lambda row: {"method": "convex"})
    found = [f for f in findings(Results.of(rows + refit)) if f.key == "11-S-over-direct"]
    assert [f.note for f in found] == ["", ""]


def test_two_cores_of_eleven_scans_are_two_findings():
    rows = pair(ELEVEN, DIRECT, [0.02, 0.03, 0.04])
    rows += pair(core("sim-11S", "11-S"), DIRECT, [-0.02, -0.03, -0.04])[1::2]
    found = [f for f in findings(Results.of(rows)) if f.key == "11-S-over-direct"]
    assert [(f.claim.partition(" is")[0], f.verdict) for f in found] == [
        ("11-S", HOLDS),
        ("11-S ('sim-11S')", FAILS),
    ]


# ---------------------------------------------------------------- data efficiency


def test_images_needed_are_interpolated_over_the_logarithm():
    # oracle: half way between .4 and .6 is sqrt(100 * 400) = 200 images
    curve = {100: 0.4, 400: 0.6, 1600: 0.7}
    assert images_needed(curve, 0.5) == pytest.approx(200)
    assert images_needed(curve, 0.6) == pytest.approx(400)
    assert images_needed(curve, 0.7) == pytest.approx(1600)
    assert images_needed(curve, 0.3) == 100
    assert images_needed(curve, 0.71) == math.inf
    assert images_needed({100: 0.4, 400: 0.3, 1600: 0.7}, 0.5) == pytest.approx(400 * 4**0.5)


def efficiency_rows(at_100: list[float], at_400: list[float], direct: list[float]) -> list[dict[str, Any]]:
    rows = []
    for partition, values in enumerate(zip(at_100, at_400, direct, strict=True)):
        rows += [
            make_row(values[0], partition=partition, **ELEVEN, images=100),
            make_row(values[1], partition=partition, **ELEVEN, images=400),
            make_row(0.1, partition=partition, **DIRECT, images=100),
            make_row(values[2], partition=partition, **DIRECT, images=400),
        ]
    return rows


def test_the_share_of_images_is_paired_and_has_an_interval_on_logarithms():
    # oracle: shares 1/2, 1/2^1.5, 1/2: geometric mean 2^-(3.5/3)
    rows = efficiency_rows([0.4, 0.5, 0.4], [0.6, 0.7, 0.6], [0.5, 0.55, 0.5])
    found = check(rows, "data-efficiency")
    assert found.effect.mean == pytest.approx(2 ** (-3.5 / 3))
    logs = found.effect.high / found.effect.mean
    assert logs == pytest.approx(math.exp(4.3027 * (math.log(2) / 2 / 3**0.5) / 3**0.5), rel=1e-3)
    assert found.verdict == HOLDS
    assert found.gain_at is not None
    assert found.gain_at == (50, 400)


def test_a_score_that_is_never_reached_is_not_called_efficient():
    missed = check(efficiency_rows([0.4] * 3, [0.6] * 3, [0.7] * 3), "data-efficiency")
    assert (missed.verdict, missed.effect.mean) == (FAILS, math.inf)
    some = check(efficiency_rows([0.4] * 3, [0.6, 0.6, 0.8], [0.7] * 3), "data-efficiency")
    assert some.verdict == UNDECIDED
    assert "not reached in 2 of 3 partitions" in some.note
    assert check(efficiency_rows([0.4], [0.6], [0.5]), "data-efficiency").verdict == UNDECIDED


@pytest.mark.parametrize(("shares", "verdict"), [((0.9, 1.2), UNDECIDED), ((1.5, 1.51), FAILS)])
def test_more_than_all_images_are_no_efficiency(shares, verdict):
    assert share_interval(dict(enumerate(shares)))[1] == verdict


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [((0.1, 0.1), HOLDS), ((-0.1, -0.1), FAILS), ((-0.1, 0.1), UNDECIDED), ((0.1,), UNDECIDED)],
)
def test_verdicts_follow_the_interval(differences, verdict):
    first, second = scores({1: differences}), scores({1: [0.0] * len(differences)})
    assert verdict_of(Comparison.of(first, second).pooled) == verdict


def scores(by_images: dict[int, Sequence[float]]) -> pd.Series:
    """Scores of one neuron by number of images, from partition 0 on."""
    values = {(1, n, p): value for n, some in by_images.items() for p, value in enumerate(some)}
    return pd.Series(values).rename_axis(["units", "images", "partition"])


def test_pooling_takes_partitions_that_every_number_of_images_has():
    assert pool(scores({1: [1.0, 2.0], 2: [3.0, 4.0, 9.0]})).to_dict() == {0: 2.0, 1: 3.0}
    assert pool(scores({1: [1.0]})[:0]).to_dict() == {}


def test_ratios_need_a_positive_score():
    found = Comparison.of(scores({1: [0.2, 0.3]}), scores({1: [-0.1, 0.1]}))
    assert found.ratios.to_dict() == {(1, 1, 1): pytest.approx(3.0)}
    assert found.differences[1, 1, 0] == pytest.approx(0.3)


def test_made_up_benchmarks_show_what_was_put_into_them():
    found = {f.key: f.verdict for f in findings(Results.of(within_animal() + across_animals()))}
    assert set(found.values()) == {HOLDS}
    assert len(found) == 13


def test_another_score_can_be_asked_for():
    rows = pair(ELEVEN, DIRECT, [0.02, 0.03, 0.04])
    found = check(rows, "11-S-over-direct", "test_correlation")
    assert found.effect.mean == pytest.approx(0.03 * 0.35)

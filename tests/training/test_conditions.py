"""Claims about draws of neurons and images; the oracles are sets of ids, and sums by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pretraining import small_scan

from mousev1.compare.draws import training_subset
from training.simulation import CORE_SETS, TRANSFER_SCAN, WITHIN_ANIMAL_SCAN, SimulationConfig, simulate_scan
from training.transfer_benchmark.protocol import (
    best_per_partition,
    check_images_apart,
    draw_images,
    draw_neurons,
    share_out,
)

TINY = SimulationConfig(unit_scale=0.002, train_images=12, validation_images=4, test_images=3)


def ids(scans, tier):
    return {image for scan in scans for image in scan.trials(tier).image_ids.tolist()}


def test_core_sets_never_show_a_training_image_where_another_scan_validates_or_tests():
    # oracle: pixels of every image of core scans and of both transfer scans
    names = {*CORE_SETS["4-S:diff-animals"], "sim-a2", WITHIN_ANIMAL_SCAN, TRANSFER_SCAN}
    scans = [simulate_scan(name, TINY)[0] for name in sorted(names)]
    check_images_apart(scans)
    seen = {
        tier: {
            image.tobytes() for scan in scans for image in scan.images[scan.trial_image[scan.tiers == tier]]
        }
        for tier in ("train", "validation", "test")
    }
    assert len(seen["train"]) == 7 * 12
    assert len(seen["validation"]) == 7 * 4
    assert len(seen["test"]) == 3  # the same everywhere
    assert not seen["train"] & seen["validation"]
    assert not (seen["train"] | seen["validation"]) & seen["test"]


def test_an_image_that_another_scan_tests_on_is_refused_whatever_its_id():
    first, second = small_scan("a", seed=1), small_scan("b", seed=2)
    check_images_apart([first, second])
    images = second.images.copy()
    stolen = first.images[first.trial_image[first.tiers == "test"][0]]
    images[second.trial_image[second.tiers == "train"][5]] = stolen
    with pytest.raises(ValueError, match=r"of b \(tier train\) is also in a \(tier test\)"):
        check_images_apart([first, replace(second, images=images, image_ids=second.image_ids + 1000)])


def test_images_are_drawn_from_the_training_tier_evenly_nested_and_differently_per_partition():
    scans = [small_scan("a", seed=1), replace(small_scan("b", seed=2), image_ids=np.arange(100, 139))]
    few, many = draw_images(scans, 10, 0), draw_images(scans, 31, 0)
    assert [len(ids([scan], "train")) for scan in few] == [5, 5]
    assert [len(ids([scan], "train")) for scan in many] == [16, 15]
    assert ids(few, "train") < ids(many, "train") < ids(scans, "train")
    assert ids(draw_images(scans, 10, 1), "train") != ids(few, "train")
    for tier in ("validation", "test"):
        assert ids(few, tier) == ids(scans, tier)
        assert not ids(few, "train") & ids(scans, tier)
    with pytest.raises(ValueError, match="images: expected 4 to 48, for 2 scans"):
        draw_images(scans, 49, 0)


def test_a_fixed_draw_of_images_is_that_of_its_seed_in_every_partition():
    # oracle: the draw of the package's own comparison
    scan = small_scan("a", seed=1)
    expected = ids([training_subset(scan, 10, 7)], "train")
    assert ids(draw_images([scan], 10, 0, image_seed=7), "train") == expected
    assert ids(draw_images([scan], 10, 3, image_seed=7), "train") == expected
    assert ids(draw_images([scan], 10, 0), "train") != expected


@pytest.mark.parametrize(
    ("count", "available", "expected"),
    [(7, [10, 10], [4, 3]), (10, [1, 3, 99], [1, 3, 6]), (6, [1, 3, 2], [1, 3, 2]), (0, [4], [0])],
)
def test_images_are_shared_out_evenly_as_far_as_scans_have_them(count, available, expected):
    assert share_out(count, available) == expected


def test_neurons_for_readouts_and_for_cores_are_the_same_in_matched_scans_and_never_overlap():
    scans = [simulate_scan(name, replace(TINY, unit_scale=0.01))[0] for name in CORE_SETS["4-S:matched"]]
    scans[1] = scans[1].select_units(np.arange(scans[1].n_units)[::-1])  # oracle: match ids, not order
    drawn = draw_neurons(scans, 3, units=10, core_units=30)

    def matches(index):
        found = [scan.match_ids[rows].tolist() for scan, rows in zip(scans, index, strict=True)]
        assert all(other == found[0] for other in found)
        return set(found[0])

    transfer, core = matches(drawn.transfer), matches(drawn.core)
    assert (len(transfer), len(core)) == (10, 30)
    assert not transfer & core
    assert matches(draw_neurons(scans, 3, units=5, core_units=30).transfer) < transfer
    assert matches(draw_neurons(scans, 4, units=10).transfer) != transfer
    with pytest.raises(
        ValueError, match="expected at most 16, because sim-a1 has 46 neurons and 30 are kept"
    ):
        draw_neurons(scans, 0, units=17, core_units=30)


def test_all_neurons_are_those_not_kept_for_cores():
    scan = small_scan("a", units=9)
    drawn = draw_neurons([scan], 0, units=0, core_units=4)
    assert drawn.core is not None
    assert sorted([*drawn.transfer[0], *drawn.core[0]]) == list(range(9))
    assert draw_neurons([scan], 0, units=0).transfer[0].tolist() == list(range(9))


def test_several_scans_need_common_neurons():
    scans = [small_scan("a"), replace(small_scan("b"), match_ids=np.arange(5) + 5)]
    with pytest.raises(ValueError, match="have no neuron in common"):
        draw_neurons(scans, 0, units=2)
    with pytest.raises(ValueError, match="no match_ids in 'b'"):
        draw_neurons([scans[0], replace(scans[1], match_ids=None)], 0, units=2)


def test_the_best_seed_of_each_partition_is_chosen_by_validation_not_by_test():
    kind = dict.fromkeys(
        ["benchmark", "condition", "core", "core_set", "scope", "readout", "sharing", "method", "scan"], "x"
    )

    def row(partition, seed, validation, test, images=50):
        scores = {"validation_correlation": validation, "test_correlation": test}
        return {**kind, "images": images, "units": 5, "partition": partition, "seed": seed, **scores}

    rows = [
        row(0, 0, 0.1, 0.9),
        row(0, 1, 0.3, 0.2),
        row(0, 2, None, 1.0),
        row(1, 0, None, 0.5),
        row(1, 1, float("nan"), 0.6),
        row(0, 0, 0.2, 0.4, images=200),
    ]
    chosen = [
        (r["images"], r["partition"], r["seed"], r["test_correlation"]) for r in best_per_partition(rows)
    ]
    assert chosen == [(50, 0, 1, 0.2), (50, 1, 0, 0.5), (200, 0, 0, 0.4)]

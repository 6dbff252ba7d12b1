"""What is known about each trial, from files to subsets. Oracle: hand-made trees and arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mousev1.data.io import read_scan
from test_formats import make_scan, make_tree


def write_trials(root: Path, group: str, rows: np.ndarray) -> None:
    (root / "data" / group).mkdir(parents=True)
    for trial, row in enumerate(rows):
        np.save(root / "data" / group / f"{trial}.npy", row)


def test_a_published_tree_gives_behaviour_pupil_and_trial_order(tmp_path: Path) -> None:
    behaviour, pupil = np.arange(12.0).reshape(4, 3), np.array([[1, 2], [3, 4], [5, np.nan], [7, 8.0]])
    root = make_tree(tmp_path / "tree", meta__trials__trial_idx=np.array([5, 2, 9, 0]))
    write_trials(root, "behavior", behaviour)
    write_trials(root, "pupil_center", pupil)
    found = read_scan(root).covariates
    assert list(found) == [
        "pupil_radius", "pupil_radius_derivative", "pupil_x", "pupil_y", "running", "trial_order",
    ]  # fmt: skip
    assert found["running"].tolist() == [2, 5, 8, 11]
    assert found["pupil_radius"].tolist() == [0, 3, 6, 9]
    np.testing.assert_array_equal(found["pupil_x"], [1, 3, 5, 7])
    np.testing.assert_array_equal(found["pupil_y"], [2, 4, np.nan, 8])
    assert found["trial_order"].tolist() == [5, 2, 9, 0]


def test_trials_left_out_take_their_covariates_with_them(tmp_path: Path) -> None:
    tiers = np.array(["train", "final_test", "test", "test"])
    root = make_tree(tmp_path / "tree", meta__trials__tiers=tiers)
    write_trials(root, "pupil_center", np.arange(8.0).reshape(4, 2))
    scan = read_scan(root, tiers={"final_test": None})
    assert scan.covariates["pupil_x"].tolist() == [0, 4, 6]


def test_a_trial_without_pupil_still_counts(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree")
    write_trials(root, "pupil_center", np.arange(8.0).reshape(4, 2))
    (root / "data/pupil_center/2.npy").unlink()
    np.testing.assert_array_equal(read_scan(root).covariates["pupil_y"], [1, 3, np.nan, 7])


def test_behaviour_that_is_no_row_of_numbers_is_left_out_with_a_warning(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree")
    write_trials(root, "behavior", np.zeros((4, 3, 300)))
    with pytest.warns(UserWarning, match=r"left out of covariates.*behavior.0\.npy"):
        assert read_scan(root).covariates == {}


def test_a_written_tree_holds_behaviour_as_the_competition_has_it(tmp_path: Path) -> None:
    values = {"pupil_radius": [1.0, 2], "pupil_radius_derivative": [0.5, -0.5], "running": [7.0, 8]}
    covariates = {name: np.resize(row, 12) for name, row in values.items()}
    scan = make_scan(covariates={**covariates, "trial_order": np.arange(12)[::-1].copy()})
    scan.write(tmp_path / "tree")
    np.testing.assert_array_equal(np.load(tmp_path / "tree/data/behavior/1.npy"), np.float32([2, -0.5, 8]))
    assert np.load(tmp_path / "tree/meta/trials/trial_idx.npy").tolist() == list(range(12))[::-1]


def test_covariates_follow_their_trials_and_survive_a_choice_of_neurons() -> None:
    scan = make_scan()
    test = scan.trials("test")
    np.testing.assert_array_equal(
        test.covariates["running"], scan.covariates["running"][scan.tiers == "test"]
    )
    assert scan.select_units([1, 0]).covariates.keys() == scan.covariates.keys()
    assert scan != make_scan(covariates={})
    assert "about the trials: pupil_radius, running, trial_order" in scan.summary()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (np.zeros(3), ValueError, r"covariates\['running'\]: expected \(12,\)"),
        (np.full(12, np.inf), ValueError, "infinity"),
        (np.full(12, "fast"), TypeError, "expected numbers"),
    ],
)
def test_covariates_that_do_not_fit_are_refused(values: np.ndarray, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make_scan(covariates={"running": values})

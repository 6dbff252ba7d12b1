"""The simulated raw session, end to end. Oracle: its truth, and integration written out with the true onsets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mousev1.data.io import read_scan
from mousev1.data.scan import Scan
from mousev1.ingest import NeuronSelection, Report, read_session

RAW = "recordings/raw_session"


@pytest.fixture(scope="module")
def raw(shared: Callable[[str], Path]) -> Path:
    return shared(RAW)


@pytest.fixture(scope="module")
def truth(shared: Callable[[str], Path]) -> dict[str, np.ndarray]:
    with np.load(shared(f"{RAW}.truth.npz")) as file:
        return dict(file)


@pytest.fixture(scope="module")
def scan(raw: Path) -> Scan:
    return session(raw)


def session(raw: Path, **options: object) -> Scan:
    return read_session(
        raw / "suite2p",
        log=raw / "stimulus_log.csv",
        pictures=raw / "stimuli",
        behavior=raw / "behavior.csv",
        rig=raw / "rig.json",
        **options,  # type: ignore[arg-type]
    )


def shown(scan: Scan) -> np.ndarray:
    """Number of the picture in each trial."""
    numbers = np.array([int(name.split("_")[1].split(".")[0]) for name in scan.image_ids.tolist()])
    return numbers[scan.trial_image]


def in_truth(scan: Scan, truth: dict[str, np.ndarray]) -> np.ndarray:
    """Column of the truth of each neuron of the scan; -1 for a ROI that is no cell."""
    numbers = np.empty(len(truth["plane"]), int)
    planes = truth["plane"]
    # The truth numbers ROIs across planes, suite2p plane after plane.
    order = np.argsort(planes, kind="stable")
    numbers[order] = np.arange(len(planes))
    column = {int(numbers[roi]): i for i, roi in enumerate(truth["where"])}
    return np.array([column.get(int(unit), -1) for unit in scan.unit_ids])


def mean_correlation(responses: np.ndarray, expected: np.ndarray) -> float:
    pairs = zip(responses.T, expected.T, strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


def oracle_responses(raw: Path, truth: dict[str, np.ndarray], start: float, stop: float) -> np.ndarray:
    """(T, U) sums over the frames that start in the window after the true onsets, frame by frame."""
    columns = []
    for roi in truth["where"]:
        plane = int(truth["plane"][roi])
        row = int(np.count_nonzero(truth["plane"][:roi] == plane))
        spikes = np.load(raw / f"suite2p/plane{plane}/spks.npy")[row].astype(float)
        time = np.arange(len(spikes)) / 15.0 + plane / 30.0
        window = [(time >= onset + start) & (time < onset + stop) for onset in truth["onset_s"]]
        columns.append([spikes[inside].sum() for inside in window])
    return np.array(columns).T


def test_every_selected_roi_is_a_cell_and_every_trial_shows_its_picture(scan: Scan, truth: dict) -> None:
    assert sorted(in_truth(scan, truth)) == list(range(120))
    np.testing.assert_array_equal(shown(scan), truth["order"])
    np.testing.assert_allclose(scan.covariates["trial_time"], truth["onset_s"], atol=1e-3)


def test_responses_correlate_with_the_true_rates_like_those_of_an_oracle(
    raw: Path, scan: Scan, truth: dict
) -> None:
    rates = truth["rates"][truth["order"]]
    own = mean_correlation(scan.responses, rates[:, in_truth(scan, truth)])
    oracle = max(
        mean_correlation(oracle_responses(raw, truth, start, start + 0.5), rates)
        for start in (0.05, 0.08, 0.1)
    )
    assert own >= oracle - 0.01
    assert own > 0.6


def test_a_window_chosen_by_reliability_is_no_worse(raw: Path, scan: Scan, truth: dict) -> None:
    report = Report()
    chosen = session(raw, window="auto", report=report)
    rates = truth["rates"][shown(chosen)][:, in_truth(chosen, truth)]
    assert mean_correlation(chosen.responses, rates) > 0.61
    assert any("window chosen on half of the repeats" in note for note in report.notes)


def test_fluorescence_without_its_decay_correlates_with_the_true_rates_like_spikes(
    raw: Path, truth: dict
) -> None:
    scan = session(raw, neurons=NeuronSelection(signal="fluorescence"))
    rates = truth["rates"][shown(scan)][:, in_truth(scan, truth)]
    assert mean_correlation(scan.responses, rates) > 0.61


def test_positions_are_those_of_the_truth_up_to_the_corner_of_the_field(scan: Scan, truth: dict) -> None:
    assert scan.positions is not None
    offset = scan.positions - truth["um"][in_truth(scan, truth)]
    np.testing.assert_allclose(offset, np.broadcast_to(np.median(offset, axis=0), offset.shape), atol=1e-3)


def test_pictures_are_what_the_core_was_meant_to_see(scan: Scan, truth: dict) -> None:
    numbers = [int(name.split("_")[1].split(".")[0]) for name in scan.image_ids.tolist()]
    difference = np.abs(scan.images[:, 0].astype(float) - truth["seen"][numbers])
    assert np.median(difference, axis=(1, 2)).max() <= 2
    assert difference.max() <= 12
    assert (difference[truth["seen"][numbers] == 113] <= 8).all()


def test_repeated_images_are_test_and_no_image_is_in_two_tiers(scan: Scan, truth: dict) -> None:
    repeats = np.bincount(truth["order"])[shown(scan)]
    np.testing.assert_array_equal(scan.tiers == "test", repeats > 1)
    assert scan.tier_sizes == {"train": 360, "validation": 40, "test": 300}


def test_behaviour_is_the_mean_over_each_window(raw: Path, scan: Scan) -> None:
    table = np.genfromtxt(raw / "behavior.csv", delimiter=",", names=True)
    for trial in (0, 350, 699):
        start = scan.covariates["trial_time"][trial] + 0.05
        inside = (table["time_s"] >= start) & (table["time_s"] < start + 0.5)
        assert scan.covariates["running"][trial] == pytest.approx(table["running_cm_s"][inside].mean())
        assert scan.covariates["pupil_radius"][trial] == pytest.approx(
            table["pupil_radius_mm"][inside].mean()
        )


def test_two_commands_lead_to_a_scored_model(raw: Path, scan: Scan, tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        command = [sys.executable, "-m", "mousev1", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    files = [
        "--log",
        raw / "stimulus_log.csv",
        "--pictures",
        raw / "stimuli",
        "--behavior",
        raw / "behavior.csv",
    ]
    said = run("ingest", raw / "suite2p", *files, "--rig", raw / "rig.json", "--out", "scan.h5")
    assert "wrote scan.h5, scan.report.txt and scan.pictures.png" in said
    assert read_scan(tmp_path / "scan.h5") == scan
    assert "trials cut at the start or end" in (tmp_path / "scan.report.txt").read_text()
    assert (tmp_path / "scan.pictures.png").read_bytes()[:4] == b"\x89PNG"
    scored = run("fit", "scan.h5", "--out", "model", "--core", "sim-11S", "--quiet")
    assert "test trials:" in scored

"""One session in every format. Oracle: the scan read from suite2p, and integration written out frame by frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ingest.sessions import (
    Session,
    mat_variables,
    raw_session,
    small_session,
    write_caiman,
    write_mat73,
    write_nwb,
    write_side_files,
    write_suite2p,
    write_table,
)
from mousev1.data.scan import Scan
from mousev1.ingest import LogFormat, NeuronSelection, Report, read_session

pytest.importorskip("pynwb")
io = pytest.importorskip("scipy.io")


def expected_responses(session: Session) -> np.ndarray:
    """(T, U) overlap of every frame with 50 to 550 ms after onset, times its value."""
    columns = []
    for spks, selected, delay in zip(session.spks, session.iscell, session.delays, strict=True):
        start = delay + np.arange(spks.shape[1]) / session.fs
        begin, end = (session.onset[:, None] + edge for edge in (0.05, 0.55))
        share = (
            np.clip(np.minimum(end, start + 1 / session.fs) - np.maximum(begin, start), 0, None) * session.fs
        )
        columns.append(share @ spks[selected[:, 0] > 0].T.astype(float))
    return np.concatenate(columns, axis=1)


def write(session: Session, form: str, root: Path) -> tuple[Any, dict[str, Any]]:
    """What to give ``read_session``: the source, and what stands beside it."""
    beside = write_side_files(session, root / "beside")
    rig = {"rig": beside["rig"]}
    if form == "suite2p":
        return write_suite2p(session, root / "suite2p"), beside
    if form == "caiman":
        return write_caiman(session, root / "caiman"), beside
    if form in ("nwb", "nwb index"):
        return write_nwb(session, root / "session.nwb", index_series=form == "nwb index"), rig
    variables = mat_variables(session)
    if form == "mat v5":
        io.savemat(root / "session.mat", variables, oned_as="column")
        return root / "session.mat", rig
    if form == "mat v7.3":
        return write_mat73(root / "session.mat", variables), rig
    arrays = {key: value for key, value in variables.items() if not isinstance(value, dict)}
    arrays["pictures"] = np.moveaxis(variables["pictures"], -1, 0)
    arrays["onset_s"], arrays["image"] = session.onset, variables["log"]["image"].astype(int) - 1
    (root / "arrays").mkdir()
    for key, value in arrays.items():
        np.save(root / "arrays" / f"{key}.npy", value)
    return root / "arrays", {**rig, "behavior": beside["behavior"]}


FORMS = ["suite2p", "caiman", "nwb", "nwb index", "mat v5", "mat v7.3", "arrays"]


def check_same(found: Scan, expected: Scan) -> None:
    np.testing.assert_allclose(found.responses, expected.responses, rtol=1e-5)
    assert found.positions is not None
    assert expected.positions is not None
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-3)
    np.testing.assert_array_equal(found.images[found.trial_image], expected.images[expected.trial_image])
    np.testing.assert_array_equal(found.tiers == "test", expected.tiers == "test")
    assert found.tier_sizes == expected.tier_sizes
    np.testing.assert_array_equal(found.unit_ids, expected.unit_ids)
    for name in ("trial_order", "trial_time", "running"):
        np.testing.assert_allclose(found.covariates[name], expected.covariates[name])


@pytest.mark.parametrize("form", FORMS)
def test_responses_are_the_overlap_of_frames_and_window_in_every_format(form: str, tmp_path: Path) -> None:
    session = small_session()
    source, beside = write(session, form, tmp_path)
    scan = read_session(source, **beside)
    np.testing.assert_allclose(scan.responses, expected_responses(session), rtol=1e-4)
    centres = np.concatenate([m[s[:, 0] > 0] for m, s in zip(session.med, session.iscell, strict=True)])
    assert scan.positions is not None
    np.testing.assert_allclose(scan.positions, 1.3 * centres[:, ::-1], atol=1e-4)
    repeated = [session.image.count(name) > 1 for name in session.image]
    np.testing.assert_array_equal(scan.tiers == "test", repeated)


@pytest.mark.parametrize("form", ["caiman", "nwb", "mat v5", "mat v7.3"])
def test_the_raw_session_gives_one_scan_from_every_format(
    form: str, shared: Callable[[str], Path], tmp_path: Path
) -> None:
    session = raw_session(shared("recordings/raw_session"))
    if form.startswith("nwb"):
        # Masks are whole pixels.
        session = replace(session, med=[np.rint(med) for med in session.med])
    expected = read_session(
        write_suite2p(session, tmp_path / "s2p"), **write_side_files(session, tmp_path / "x")
    )
    source, beside = write(session, form, tmp_path)
    check_same(read_session(source, **beside), expected)


def test_combined_is_read_as_its_planes(tmp_path: Path) -> None:
    from ingest.sessions import write_suite2p_arrays

    session = small_session()
    beside = write_side_files(session, tmp_path / "beside")
    expected = read_session(write_suite2p(session, tmp_path / "planes"), **beside)
    # Two planes of 100 x 100 stand side by side in suite2p's mosaic.
    moved = np.concatenate([session.med[0], session.med[1] + [0, 100]])
    folder = tmp_path / "suite2p" / "combined"
    folder.mkdir(parents=True)
    on_plane = np.repeat([0, 1], 6)
    write_suite2p_arrays(
        folder, np.concatenate(session.spks), np.concatenate(session.iscell), moved, iplane=on_plane
    )
    np.save(folder / "ops.npy", {"fs": 15.0, "nplanes": 2, "Ly": 100, "Lx": 200}, allow_pickle=True)
    check_same(read_session(tmp_path / "suite2p", **beside), expected)


def test_fluorescence_is_f_minus_seven_tenths_of_the_neuropil(tmp_path: Path) -> None:
    session = small_session(planes=1, frames=600)
    beside = write_side_files(session, tmp_path / "beside")
    source = write_suite2p(session, tmp_path / "suite2p")
    scan = read_session(source, **beside, neurons=NeuronSelection(signal="fluorescence", decay=0))
    # 100 + 10 spikes - .7 x 20, over the lower tenth of a recording shorter than one minute.
    corrected = 86 + 10 * session.spks[0]
    low = np.quantile(corrected, 0.1, axis=1, keepdims=True)
    relative = replace(session, spks=[(corrected - low) / low])
    np.testing.assert_allclose(
        scan.responses, np.maximum(expected_responses(relative), 0), rtol=1e-3, atol=1e-5
    )


def test_a_probability_selects_rois_and_a_missing_iscell_keeps_all(tmp_path: Path) -> None:
    session = small_session(planes=1)
    beside = write_side_files(session, tmp_path / "beside")
    source = write_suite2p(session, tmp_path / "suite2p")
    scan = read_session(source, **beside, neurons=NeuronSelection(min_probability=0.3))
    np.testing.assert_array_equal(scan.unit_ids, np.flatnonzero(session.iscell[0][:, 1] >= 0.3))
    (source / "plane0" / "iscell.npy").unlink()
    report = Report()
    assert read_session(source, **beside, report=report).n_units == 6
    assert "plane0: no iscell.npy, so all 6 ROIs are neurons" in report.assumed


def test_a_csv_without_the_usual_names_is_read_once_they_are_given(tmp_path: Path) -> None:
    session = small_session()
    beside = write_side_files(session, tmp_path / "beside")
    source = write_suite2p(session, tmp_path / "suite2p")
    expected = read_session(source, **beside)
    odd = write_table(tmp_path / "odd.csv", A=session.onset * 1000, B=session.image, C=["x"] * 20)
    with pytest.raises(ValueError, match=r"no column for onset and image recognised among 'A', 'B', 'C'"):
        read_session(source, **{**beside, "log": odd})
    form = LogFormat(columns={"onset": "A", "image": "B"}, time_unit="ms")
    check_same(read_session(source, **{**beside, "log": odd}, log_format=form), expected)

"""The layouts that programs really write, beside those of ``sessions``. Oracle: the same session from suite2p."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ingest.sessions import (
    RIG,
    Session,
    mat_variables,
    small_session,
    write_caiman,
    write_mat73,
    write_nwb,
    write_side_files,
    write_suite2p,
)
from ingest.test_formats_agree import check_same
from mousev1.data.scan import Scan
from mousev1.ingest import NeuronSelection, Report, read_session

sparse = pytest.importorskip("scipy.sparse")
io = pytest.importorskip("scipy.io")


@pytest.fixture
def session() -> Session:
    return small_session(planes=1)


@pytest.fixture
def beside(session: Session, tmp_path: Path) -> dict[str, Path]:
    return write_side_files(session, tmp_path / "beside")


@pytest.fixture
def expected(session: Session, beside: dict[str, Path], tmp_path: Path) -> Scan:
    return read_session(write_suite2p(session, tmp_path / "suite2p"), **beside)


def test_footprints_of_caiman_give_their_centres(
    session: Session, beside: dict[str, Path], expected: Scan, tmp_path: Path
) -> None:
    [path] = write_caiman(session, tmp_path)
    masks = np.zeros((6, 100, 120))  # dims are rows and columns; pixels count down columns
    for mask, (y, x) in zip(masks, session.med[0].astype(int), strict=True):
        mask[y - 1 : y + 2, x - 2 : x + 3] = 0.3
        mask[y, x] = 2.0
    footprints = sparse.csc_matrix(np.stack([mask.ravel(order="F") for mask in masks], axis=1))
    with h5py.File(path, "a") as file:
        del file["estimates/A"], file["estimates/coordinates"]
        for name in ("data", "indices", "indptr", "shape"):
            file[f"estimates/A/{name}"] = getattr(footprints, name)
        file["estimates/dims"] = [100, 120]
    check_same(read_session(path, **beside), expected)


def test_fall_mat_of_suite2p_is_read_with_its_structures(
    session: Session, beside: dict[str, Path], expected: Scan, tmp_path: Path
) -> None:
    stat = np.empty(6, object)
    stat[:] = [{"med": list(row), "npix": 3.0} for row in session.med[0]]
    variables = {
        "spks": session.spks[0], "F": session.spks[0], "Fneu": session.spks[0], "iscell": session.iscell[0],
        "ops": {"fs": 15.0, "nplanes": 1}, "stat": stat,
    }  # fmt: skip
    io.savemat(tmp_path / "Fall.mat", variables)
    check_same(read_session(tmp_path / "Fall.mat", **beside), expected)


def test_cells_of_texts_in_v73_are_names_of_pictures(
    session: Session, beside: dict[str, Path], expected: Scan, tmp_path: Path
) -> None:
    variables = {**mat_variables(session), "log": {"onset_s": session.onset}}
    del variables["pictures"]
    path = write_mat73(tmp_path / "session.mat", variables)
    with h5py.File(path, "a") as file:
        references = np.empty((1, len(session.image)), h5py.ref_dtype)
        for i, name in enumerate(session.image):
            text = file.create_dataset(f"#refs#/{i}", data=np.array([[ord(c)] for c in name], np.uint16))
            text.attrs["MATLAB_class"] = np.bytes_("char")
            references[0, i] = text.ref
        file["log"].create_dataset("image", data=references).attrs["MATLAB_class"] = np.bytes_("cell")
    check_same(read_session(path, pictures=beside["pictures"], rig=beside["rig"]), expected)


def test_an_array_of_structures_is_a_log(
    session: Session, beside: dict[str, Path], expected: Scan, tmp_path: Path
) -> None:
    rows = [
        {"onset_s": onset, "image": name} for onset, name in zip(session.onset, session.image, strict=True)
    ]
    options = {name: beside[name] for name in ("pictures", "rig")}
    table = np.array(
        [(row["onset_s"], row["image"]) for row in rows], [("onset_s", object), ("image", object)]
    )
    for log in (rows, table):  # cells of structures, and a structure array
        io.savemat(tmp_path / "s.mat", {**mat_variables(session), "log": log}, oned_as="column")
        check_same(read_session(tmp_path / "s.mat", **options), expected)


def test_arrays_transposed_are_recognised_by_the_number_of_neurons(
    session: Session, beside: dict[str, Path], expected: Scan, tmp_path: Path
) -> None:
    np.savez(
        tmp_path / "s.npz", spikes=session.spks[0].T, fs=15.0, centroids=session.med[0][:, ::-1],
        iscell=session.iscell[0], t=np.arange(900) / 15.0, timestamps=np.arange(900) / 15.0,
    )  # fmt: skip
    check_same(read_session(tmp_path / "s.npz", **beside), expected)


def write_other_nwb(session: Session, path: Path) -> None:
    """Image masks, time stamps, dF/F beside deconvolved events, presentations with file names, an eye camera."""
    pynwb = pytest.importorskip("pynwb")
    from pynwb.behavior import EyeTracking, PupilTracking, SpatialSeries
    from pynwb.epoch import TimeIntervals
    from pynwb.ophys import DfOverF, ImageSegmentation, OpticalChannel, RoiResponseSeries

    file = pynwb.NWBFile(
        session_description="s", identifier="i", session_start_time=datetime(2020, 1, 1, tzinfo=timezone.utc)
    )
    plane = file.create_imaging_plane(
        optical_channel=OpticalChannel(name="c", description="green", emission_lambda=510.0), name="plane",
        description="V1", device=file.create_device(name="scope"), excitation_lambda=920.0, indicator="GCaMP6f",
        location="V1",
    )  # fmt: skip
    ophys = file.create_processing_module(name="ophys", description="two-photon")
    segmentation = ImageSegmentation()
    ophys.add(segmentation)
    table = segmentation.create_plane_segmentation(description="ROIs", imaging_plane=plane, name="rois")
    for y, x in session.med[0].astype(int):
        mask = np.zeros((100, 120))
        mask[x, y] = 1.0
        table.add_roi(image_mask=mask)
    table.add_column(name="accepted", description="by hand", data=session.iscell[0][:, 0])
    times = np.arange(session.spks[0].shape[1]) / session.fs
    for container, name, data in (
        (DfOverF(name="DfOverF"), "dff", session.spks[0] + 1),
        (DfOverF(name="EventDetection"), "events", session.spks[0]),
    ):
        ophys.add(container)
        rows = table.create_roi_table_region(description="all", region=list(range(6)))
        container.add_roi_response_series(
            RoiResponseSeries(name=name, data=data.T, unit="n.a.", rois=rows, timestamps=times)
        )
    shown = TimeIntervals(name="natural_scenes_presentations", description="shown")
    shown.add_column(name="image_name", description="file")
    for onset, name in zip(session.onset, session.image, strict=True):
        shown.add_interval(start_time=onset, stop_time=onset + 0.5, image_name=name)
    file.add_time_intervals(shown)
    behavior = file.create_processing_module(name="behavior", description="state")
    assert session.running is not None
    time, speed = session.running.T
    for one in (
        pynwb.TimeSeries(name="running_speed", data=speed, unit="cm/s", timestamps=time),
        PupilTracking(
            time_series=pynwb.TimeSeries(name="pupil_diameter", data=2 * speed, unit="mm", timestamps=time)
        ),
        EyeTracking(
            spatial_series=SpatialSeries(
                name="pupil_position",
                data=np.stack([speed, -speed], 1),
                reference_frame="eye",
                timestamps=time,
            )
        ),
    ):
        behavior.add(one)
    with pynwb.NWBHDF5IO(str(path), "w") as handle:
        handle.write(file)


def test_an_nwb_file_with_masks_events_and_an_eye_camera(
    session: Session, beside: dict[str, Path], expected: Scan, tmp_path: Path
) -> None:
    write_other_nwb(session, tmp_path / "s.nwb")
    options = {name: beside[name] for name in ("pictures", "rig")}
    scan = read_session(tmp_path / "s.nwb", **options)
    check_same(scan, expected)
    for name, factor in (("pupil_radius", 1), ("pupil_x", 1), ("pupil_y", -1)):
        np.testing.assert_allclose(scan.covariates[name], factor * scan.covariates["running"], rtol=1e-6)
    with pytest.raises(ValueError, match=r"no response series for spikes; the file has .*--series NAME"):
        read_session(tmp_path / "s.nwb", **options, neurons=NeuronSelection(series="nothing"))
    by_name = read_session(tmp_path / "s.nwb", **options, neurons=NeuronSelection(series="dff"))
    np.testing.assert_allclose(by_name.responses, scan.responses + 7.5, rtol=1e-4)  # 7.5 frames in 500 ms


def test_what_no_reader_knows_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        read_session(tmp_path / "nothing")
    (tmp_path / "movie.tif").write_bytes(b"II")
    with pytest.raises(ValueError, match=r"source: expected a suite2p folder, \.nwb, .*movie\.tif"):
        read_session(tmp_path / "movie.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no spikes among .*'spks'"):
        read_session(tmp_path / "empty")
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"x" * 200)
    with pytest.raises(ValueError, match=r"broken\.mat: not a sound MATLAB file"):
        read_session(tmp_path / "broken.mat")


def test_what_is_missing_is_asked_for_by_the_option_that_gives_it(session: Session, tmp_path: Path) -> None:
    beside = write_side_files(session, tmp_path / "beside")
    source = write_suite2p(session, tmp_path / "suite2p")

    def without(name: str) -> dict[str, Any]:
        return {key: value for key, value in beside.items() if key != name}

    with pytest.raises(ValueError, match="--log"):
        read_session(source, **without("log"))
    with pytest.raises(ValueError, match="--pictures"):
        read_session(source, **without("pictures"))
    with pytest.raises(ValueError, match="--screen-width-cm"):
        read_session(source, **without("rig"))
    (source / "plane0" / "ops.npy").unlink()
    with pytest.raises(ValueError, match="--frame-rate"):
        read_session(source, **beside)
    rig = {**RIG, "frame_rate": 15.0}
    assert read_session(source, **{**beside, "rig": rig}).n_trials == 20
    assert read_session(source, **without("behavior") | {"rig": rig}).covariates.keys() == {
        "trial_order",
        "trial_time",
    }


def test_the_pictures_and_log_of_a_file_may_be_replaced(
    session: Session, expected: Scan, tmp_path: Path
) -> None:
    pytest.importorskip("pynwb")
    path = write_nwb(session, tmp_path / "s.nwb")
    log = {"onset": session.onset[:15], "image": np.array(session.image[:15])}
    pictures = {name: 255 - picture for name, picture in session.pictures.items()}
    report = Report()
    scan = read_session(path, log=log, pictures=pictures, rig=RIG, report=report)
    assert scan.n_trials == 15
    np.testing.assert_allclose(scan.responses, expected.responses[:15], rtol=1e-5)

"""A recorded session as plain arrays, and writers of every format that ingest reads."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

RIG = {
    "screen_width_cm": 36.4,
    "screen_height_cm": 24.3,
    "screen_distance_cm": 18.0,
    "um_per_pixel": 1.3,
    "gray": 113,
}


@dataclass
class Session:
    """Planes of traces (U, F) with what suite2p keeps, a log, pictures and behaviour."""

    spks: list[np.ndarray]
    iscell: list[np.ndarray]
    med: list[np.ndarray]  # (U, 2) y and x in pixels
    fs: float
    onset: np.ndarray
    image: list[str]
    pictures: dict[str, np.ndarray]
    running: np.ndarray | None = None  # (samples, 2) time and speed
    rig: dict[str, Any] = field(default_factory=lambda: dict(RIG))

    @property
    def delays(self) -> list[float]:
        return [plane / len(self.spks) / self.fs for plane in range(len(self.spks))]


def small_session(
    seed: int = 0, planes: int = 2, rois: int = 6, frames: int = 900, fs: float = 15.0
) -> Session:
    """Twelve pictures, two of them shown four times; one presentation a second, 20 in all."""
    rng = np.random.default_rng(seed)
    names = [f"natural_{i}.png" for i in range(12)]
    shown = [*names, *(names[:2] * 3), *names[10:12]]
    shown = [shown[i] for i in rng.permutation(len(shown))]
    onset = np.round(5.0 + np.arange(len(shown)) + rng.uniform(-0.02, 0.02, len(shown)), 4)
    return Session(
        spks=[rng.gamma(1.0, size=(rois, frames)).astype(np.float32) for _ in range(planes)],
        iscell=[np.column_stack([np.arange(rois) != 2, rng.uniform(0.1, 0.9, rois)]) for _ in range(planes)],
        med=[rng.integers(5, 95, (rois, 2)).astype(float) for _ in range(planes)],
        fs=fs,
        onset=onset,
        image=shown,
        pictures={name: rng.integers(0, 256, (24, 32), np.uint8) for name in names},
        running=np.column_stack([np.arange(0, 40, 0.13), rng.gamma(1.0, size=308)]),
    )


def raw_session(root: Path) -> Session:
    """The shared raw session, read with numpy alone."""
    folders = [root / "suite2p" / f"plane{i}" for i in (0, 1)]
    with open(root / "stimulus_log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    behavior = np.genfromtxt(root / "behavior.csv", delimiter=",", skip_header=1)
    names = sorted(path.name for path in (root / "stimuli").iterdir())
    return Session(
        spks=[np.load(folder / "spks.npy") for folder in folders],
        iscell=[np.load(folder / "iscell.npy") for folder in folders],
        med=[
            np.array([roi["med"] for roi in np.load(folder / "stat.npy", allow_pickle=True)])
            for folder in folders
        ],
        fs=15.0,
        onset=np.array([float(row["onset_s"]) for row in rows]),
        image=[row["image"] for row in rows],
        pictures={name: np.asarray(Image.open(root / "stimuli" / name)) for name in names},
        running=behavior[:, :2],
    )


def write_pictures(session: Session, folder: Path, ending: str = "png") -> Path:
    folder.mkdir(parents=True)
    for name, picture in session.pictures.items():
        Image.fromarray(picture).save(folder / f"{Path(name).stem}.{ending}")
    return folder


def write_table(path: Path, **columns: Any) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_log(session: Session, path: Path) -> Path:
    return write_table(path, onset_s=session.onset, image=session.image)


def write_side_files(session: Session, root: Path) -> dict[str, Path]:
    """Log, pictures, behaviour and rig beside a recording: keywords of ``read_session``."""
    root.mkdir(parents=True, exist_ok=True)
    files = {
        "log": write_log(session, root / "log.csv"),
        "pictures": write_pictures(session, root / "stimuli"),
    }
    if session.running is not None:
        time, speed = session.running.T
        files["behavior"] = write_table(root / "behavior.csv", time_s=time, running_cm_s=speed)
    (root / "rig.json").write_text(json.dumps(session.rig))
    return {**files, "rig": root / "rig.json"}


def write_suite2p(session: Session, root: Path) -> Path:
    for i, spks in enumerate(session.spks):
        folder = root / f"plane{i}"
        folder.mkdir(parents=True)
        write_suite2p_arrays(folder, spks, session.iscell[i], session.med[i])
        ops = {
            "fs": session.fs,
            "nplanes": len(session.spks),
            "Ly": 100,
            "Lx": 100,
            "tau": 0.7,
            "data_path": ["x"],
        }
        np.save(folder / "ops.npy", ops, allow_pickle=True)
    return root


def write_suite2p_arrays(
    folder: Path, spks: np.ndarray, iscell: np.ndarray, med: np.ndarray, **more: Any
) -> None:
    np.save(folder / "spks.npy", spks)
    np.save(folder / "F.npy", 100 + 10 * spks)
    np.save(folder / "Fneu.npy", np.full_like(spks, 20))
    np.save(folder / "iscell.npy", iscell)
    rois = [{"med": list(row), "npix": 60, "lam": np.ones(3, np.float32)} for row in med]
    for name, values in more.items():
        rois = [{**roi, name: values[i]} for i, roi in enumerate(rois)]
    np.save(folder / "stat.npy", np.array(rois, dtype=object), allow_pickle=True)


def write_caiman(session: Session, root: Path) -> list[Path]:
    """One file per plane, as ``CNMF.save`` lays them out; footprints are single pixels of a fine grid."""
    root.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, spks in enumerate(session.spks):
        paths.append(root / f"plane{i}.hdf5")
        with h5py.File(paths[-1], "w") as file:
            file["estimates/S"] = spks
            file["estimates/C"] = spks + 1
            file["estimates/idx_components"] = np.flatnonzero(session.iscell[i][:, 0])
            file["estimates/A"] = "NoneType"
            for roi, (y, x) in enumerate(session.med[i]):
                file[f"estimates/coordinates/{roi}/CoM"] = [y, x]
            file["params/data/fr"] = session.fs
            file["params/data/dxy"] = [1, 1]
    return paths


def mat_variables(session: Session) -> dict[str, Any]:
    """Variables as a lab would save them: everything in one file, pictures along the last axis."""
    names = list(session.pictures)
    variables: dict[str, Any] = {
        "spks": np.concatenate(session.spks),
        "fs": session.fs,
        "centroids": np.concatenate(session.med)[:, ::-1],
        "iscell": np.concatenate(session.iscell)[:, 0],
        "plane": np.concatenate([np.full(len(s), i + 1) for i, s in enumerate(session.spks)]),
        "log": {
            "onset_s": session.onset,
            "image": np.array([names.index(name) + 1 for name in session.image], float),
        },
        "pictures": np.stack(list(session.pictures.values()), axis=-1),
        "um_per_pixel": session.rig["um_per_pixel"],
    }
    if session.running is not None:
        variables["behavior"] = {"time_s": session.running[:, 0], "running": session.running[:, 1]}
    return variables


def write_mat73(path: Path, variables: dict[str, Any]) -> Path:
    """The HDF5 that MATLAB writes with -v7.3: axes reversed, scalars and vectors as matrices."""
    with h5py.File(path, "w", userblock_size=512) as file:

        def put(group: Any, name: str, value: Any) -> None:
            if isinstance(value, dict):
                inner = group.create_group(name)
                inner.attrs["MATLAB_class"] = np.bytes_("struct")
                for key, item in value.items():
                    put(inner, key, item)
                return
            array = np.asarray(value)
            array = array.reshape(-1, 1) if array.ndim < 2 else array
            group.create_dataset(name, data=array.T).attrs["MATLAB_class"] = np.bytes_("double")

        for name, value in variables.items():
            put(file, name, value)
    return path


def write_nwb(session: Session, path: Path, *, index_series: bool = False) -> Path:
    """As pynwb's tutorials lay a session out: segmentation, deconvolved series per plane, images, presentations."""
    from pynwb import NWBHDF5IO, NWBFile, TimeSeries
    from pynwb.base import ImageReferences, Images
    from pynwb.image import GrayscaleImage, IndexSeries
    from pynwb.ophys import Fluorescence, ImageSegmentation, OpticalChannel, RoiResponseSeries

    file = NWBFile(
        session_description="session",
        identifier="id",
        session_start_time=datetime(2020, 1, 1, tzinfo=timezone.utc),
        session_id="session",
    )
    channel = OpticalChannel(name="channel", description="green", emission_lambda=510.0)
    device = file.create_device(name="microscope")
    ophys = file.create_processing_module(name="ophys", description="two-photon")
    segmentation, traces = ImageSegmentation(), Fluorescence(name="Deconvolved")
    ophys.add(segmentation)
    ophys.add(traces)
    for i, spks in enumerate(session.spks):
        plane = file.create_imaging_plane(
            optical_channel=channel, name=f"imaging{i}", description="V1", device=device, excitation_lambda=920.0,
            indicator="GCaMP6s", location="V1", grid_spacing=[1.3e-6, 1.3e-6], grid_spacing_unit="meters",
        )  # fmt: skip
        table = segmentation.create_plane_segmentation(
            description="ROIs", imaging_plane=plane, name=f"plane{i}"
        )
        for y, x in session.med[i].astype(int):
            table.add_roi(pixel_mask=[(x - 1, y, 0.5), (x, y, 1.0), (x + 1, y, 0.5)])
        table.add_column(name="iscell", description="selected, probability", data=session.iscell[i])
        region = table.create_roi_table_region(description="all", region=list(range(len(spks))))
        traces.add_roi_response_series(
            RoiResponseSeries(
                name=f"plane{i}",
                data=spks.T,
                unit="n.a.",
                rois=region,
                rate=session.fs,
                starting_time=session.delays[i],
            )
        )
    images = [GrayscaleImage(name=name, data=picture) for name, picture in session.pictures.items()]
    order = ImageReferences(name="order_of_images", data=images)
    container = Images(name="natural", images=images, order_of_images=order)
    file.add_stimulus_template(container)
    if index_series:
        names = list(session.pictures)
        index = np.array([names.index(name) for name in session.image], np.uint32)
        file.add_stimulus(
            IndexSeries(
                name="shown", data=index, unit="N/A", indexed_images=container, timestamps=session.onset
            )
        )
    else:
        file.add_trial_column(name="image", description="picture shown")
        for onset, name in zip(session.onset, session.image, strict=True):
            file.add_trial(start_time=onset, stop_time=onset + 0.5, image=name)
    if session.running is not None:
        behavior = file.create_processing_module(name="behavior", description="state")
        time, speed = session.running.T
        behavior.add(TimeSeries(name="running_speed", data=speed, unit="cm/s", timestamps=time))
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path

"""Recordings, pictures and tables made to do harm: refused without following them and without taking memory.

Every case runs in one further process, which reports what was raised, how much its peak memory rose and how long it
took. The oracles are that peak, the clock, and another file whose numbers must not come out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from ingest.sessions import mat_variables, small_session, write_caiman, write_mat73, write_pictures
from mousev1.core.network import InputContract
from mousev1.data.hdf5_access import where
from mousev1.data.images import prepare_images
from mousev1.data.io import read_scan
from mousev1.errors import listing
from mousev1.ingest.report import Report
from mousev1.ingest.tables import read_table
from mousev1.insilico.manifest import read_manifest
from reader_batch import Outcome, run_batch
from test_formats import make_scan, make_tree, zip_tree

MEMORY_ALLOWED = 100_000_000
SECONDS_ALLOWED = 20.0


def hdf5(path: Path, change: Callable[[Any], None]) -> Path:
    make_scan().write(path)
    with h5py.File(path, "a") as file:
        change(file)
    return path


def virtual(group: str, shape: tuple[int, ...]) -> Callable[[Any], None]:
    """Replaces a dataset by one that shows numbers of a file that is absent."""

    def change(file: Any) -> None:
        layout = h5py.VirtualLayout(shape, np.float32)
        layout[:] = h5py.VirtualSource("absent.h5", "responses", shape)
        file.pop(group, None)
        file.create_virtual_dataset(group, layout)

    return change


def stored_outside(group: str, shape: tuple[int, ...], other: Path) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        file.pop(group, None)
        file.create_dataset(group, shape, np.float32, external=[(str(other), 0, h5py.h5f.UNLIMITED)])

    return change


def linked(group: str, link: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        file.pop(group, None)
        file[group] = link

    return change


def zeros(group: str, shape: tuple[int, ...]) -> Callable[[Any], None]:
    """A dataset of zeros that takes almost nothing on the disk."""

    def change(file: Any) -> None:
        file.pop(group, None)
        chunk = (min(shape[0], 250), *shape[1:])
        data = file.create_dataset(group, shape, np.float32, chunks=chunk, compression="gzip", shuffle=True)
        packed = zlib.compress(bytes(int(np.prod(chunk)) * 4), 9)
        for row in range(0, shape[0], chunk[0]):
            data.id.write_direct_chunk((row,) + (0,) * (len(shape) - 1), packed)

    return change


def png(path: Path, width: int, height: int) -> Path:
    """A white picture of one bit per pixel, packed row by row."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    packer, row = zlib.compressobj(9), bytes(1 + width // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )
    return path


def npy(path: Path, shape: str, descr: str = "<f4") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(118) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    return path


def large_zip(path: Path, member: str, size: int) -> Path:
    """A zip whose member unpacks to ``size`` zeros."""
    block = bytes(1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(member, "w", force_zip64=True) as file:
            for _ in range(size >> 20):
                file.write(block)
        archive.writestr("meta/trials/tiers.npy", b"")
    return path


def fifo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def mat5(path: Path, size: int) -> Path:
    """A file before v7.3 with one compressed variable of ``size`` zeros."""
    packer, block = zlib.compressobj(9), bytes(1 << 20)
    head = (14).to_bytes(4, "little") + size.to_bytes(4, "little")
    packed = (
        packer.compress(head) + b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()
    )
    element = (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + element)
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def make_cases(root: Path) -> dict[str, tuple[str, Path]]:
    """Name to the reader, and the file or folder."""
    session = small_session(planes=1)
    secret = root / "secret.bin"
    np.full((12, 5), 4711, np.float32).tofile(secret)
    make_scan().write(root / "secret.h5")

    def caiman(name: str, change: Callable[[Any], None]) -> Path:
        (path,) = write_caiman(session, root / name)
        with h5py.File(path, "a") as file:
            change(file)
        return path

    def matlab(name: str, change: Callable[[Any], None]) -> Path:
        path = write_mat73(root / name, mat_variables(session))
        with h5py.File(path, "a") as file:
            change(file)
        return path

    def laughs(file: Any) -> None:
        file["a0"] = np.zeros(3)
        for depth in range(1, 15):
            file[f"a{depth}"] = np.array([file[f"a{depth - 1}"].ref] * 20, dtype=h5py.ref_dtype)

    def tree(name: str) -> Path:
        return make_tree(root / name)

    shape, series = (12, 5), (6, 900)
    outside = h5py.ExternalLink("secret.h5", "/responses")
    piped = tree("piped-member")
    fifo(piped / "data/responses/1.npy")
    pictures = write_pictures(session, root / "piped-pictures")
    fifo(pictures / "natural_0.png")
    claims = tree("claims")
    npy(claims / "data/images/0.npy", "(9_000_000_000, 1000)".replace("_", ""))
    arrays = root / "arrays"
    npy(arrays / "spks.npy", "(1500000, 1500000)")
    many = root / "many.csv"
    many.write_text("onset,image\n" + "0,a\n" * 100_000 + "1," + "b" * 100_000 + "\n")
    return {
        "scan, virtual": ("scan", hdf5(root / "virtual.h5", virtual("responses", shape))),
        "scan, external": ("scan", hdf5(root / "external.h5", stored_outside("responses", shape, secret))),
        "scan, external link": ("scan", hdf5(root / "link.h5", linked("responses", outside))),
        "scan, soft link": ("scan", hdf5(root / "soft.h5", linked("responses", h5py.SoftLink("/images")))),
        "scan, linked group": (
            "scan",
            hdf5(root / "group.h5", linked("trials", h5py.ExternalLink("secret.h5", "/trials"))),
        ),
        "scan, 2.8 GB": ("scan", hdf5(root / "bomb.h5", zeros("responses", (14_000, 50_000)))),
        "scan, no chunk": (
            "scan",
            hdf5(
                root / "empty.h5",
                lambda f: (f.pop("responses"), f.create_dataset("responses", (12, 10**9), "f4")),
            ),
        ),
        "scan, pipe": ("scan", fifo(root / "pipe.h5")),
        "scan, pipe as zip": ("scan", fifo(root / "pipe.zip")),
        "tree, pipe": ("scan", piped),
        "tree, npy of 36 TB": ("scan", claims),
        "zip, trial of 512 MB": ("scan", large_zip(root / "bomb.zip", "data/images/0.npy", 1 << 29)),
        "caiman, virtual": ("caiman", caiman("cv", virtual("estimates/S", series))),
        "caiman, external": ("caiman", caiman("ce", stored_outside("estimates/S", (2, 30), secret))),
        "caiman, external link": ("caiman", caiman("cl", linked("estimates/S", outside))),
        "caiman, 2.8 GB": ("caiman", caiman("cb", zeros("estimates/S", (14_000, 50_000)))),
        "matlab, virtual": ("matlab", matlab("v.mat", virtual("spks", series))),
        "matlab, external": ("matlab", matlab("e.mat", stored_outside("spks", (2, 30), secret))),
        "matlab, soft link": ("matlab", matlab("s.mat", linked("spks", h5py.SoftLink("/pictures")))),
        "matlab, 2.8 GB": ("matlab", matlab("b.mat", zeros("spks", (14_000, 50_000)))),
        "matlab, cells of cells": ("matlab", matlab("l.mat", laughs)),
        "matlab 5, 512 MB": ("matlab", mat5(root / "five.mat", 1 << 29)),
        "matlab, pipe": ("matlab", fifo(root / "pipe.mat")),
        "arrays, npy of 9 TB": ("arrays", arrays),
        "arrays, npz of 512 MB": ("arrays", large_zip(root / "bomb.npz", "spks.npy", 1 << 29)),
        "picture, 2.5 gigapixels": ("pictures", png(root / "bomb" / "a.png", 50_000, 50_000).parent),
        "picture, 169 megapixels": ("pictures", png(root / "bomb2" / "a.png", 13_000, 13_000).parent),
        "picture, pipe": ("pictures", pictures),
        "rig, deep": ("rig", text(root / "deep.json", '{"a":' * 1000 + "1" + "}" * 1000)),
        "rig, very deep": ("rig", text(root / "deeper.json", "[" * 1_000_000)),
        "rig, 400 digits": ("rig", text(root / "digits.json", '{"screen_width_cm": 1' + "0" * 400 + "}")),
        "rig, pipe": ("rig", fifo(root / "pipe.json")),
        "table, one long text": ("table", many),
        "table, pipe": ("table", fifo(root / "pipe.csv")),
        "checkpoint, pipe": ("checkpoint", fifo(root / "pipe.pt")),
    }


REGULAR = "expected a regular file, got a folder, pipe or device"
CASES = {
    "scan, virtual": "responses: expected a dataset inside this file, got one whose numbers are in other files",
    "scan, external": "responses: expected a dataset inside this file, got one whose numbers are in other files",
    "scan, external link": "responses: expected a dataset inside this file, got a ExternalLink",
    "scan, soft link": "responses: expected a dataset inside this file, got a SoftLink",
    "scan, linked group": "trials: expected a dataset inside this file, got a ExternalLink",
    "scan, 2.8 GB": "responses: unpacks to 2,800,000,000 bytes",
    "scan, no chunk": "responses: unpacks to 48,000,000,000 bytes",
    "scan, pipe": REGULAR,
    "scan, pipe as zip": REGULAR,
    "tree, pipe": f"data/responses/1.npy: {REGULAR}",
    "tree, npy of 36 TB": "expected 36000000000000 bytes for float32 (9000000000, 1000), got 64",
    "zip, trial of 512 MB": "unpacks to 536,870,912 bytes",
    "caiman, virtual": "estimates/S: expected a dataset inside this file",
    "caiman, external": "estimates/S: expected a dataset inside this file",
    "caiman, external link": "estimates/S: expected a dataset inside this file, got a ExternalLink",
    "caiman, 2.8 GB": "estimates/S: unpacks to 2,800,000,000 bytes",
    "matlab, virtual": "spks: expected a dataset inside this file",
    "matlab, external": "spks: expected a dataset inside this file",
    "matlab, soft link": "spks: expected a dataset inside this file, got a SoftLink",
    "matlab, 2.8 GB": "spks: unpacks to 2,800,000,000 bytes",
    "matlab, cells of cells": "more values than a file of its size can hold",
    "matlab 5, 512 MB": "bytes from a file of",
    "matlab, pipe": REGULAR,
    "arrays, npy of 9 TB": "expected 9000000000000 bytes for float32 (1500000, 1500000), got 64",
    "arrays, npz of 512 MB": "unpacks to 536,870,912 bytes",
    "picture, 2.5 gigapixels": "is not a sound picture",
    "picture, 169 megapixels": "has 13000 x 13000 pixels, more than the 50,000,000 that are read",
    "picture, pipe": REGULAR,
    "rig, deep": "nested more than 50 deep",
    "rig, very deep": "nested more than 50 deep",
    "rig, 400 digits": "a whole number of 401 digits",
    "rig, pipe": "expected a JSON file",
    "table, one long text": "a column of texts: unpacks to",
    "table, pipe": "expected a table",
    "checkpoint, pipe": "expected a checkpoint file",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    cases = make_cases(tmp_path_factory.mktemp("hostile"))
    assert set(cases) == set(CASES)
    return run_batch([(name, reader, path) for name, (reader, path) in cases.items()])


@pytest.mark.parametrize("name", CASES)
def test_hostile_recording_is_refused_at_once_and_without_memory(
    name: str, outcomes: dict[str, Outcome]
) -> None:
    outcome = outcomes[name]
    assert outcome.raised in ("ValueError", "FileNotFoundError"), outcome
    assert CASES[name] in outcome.message
    assert outcome.peak < MEMORY_ALLOWED
    assert outcome.seconds < SECONDS_ALLOWED


def test_manifest_names_no_file_outside_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        "image_id,file,class,unit_id,contrast,extrapolation,gamma,unit_1\n1,../../secret.png,mei,1,.1,,1,2\n"
    )
    with pytest.raises(ValueError, match=r"expected names of files beside it, got '\.\./\.\./secret\.png'"):
        read_manifest(tmp_path)


EVIL = "a\n\x1b[2Jmousev1: wrote model\x07"
SHOWN = r"a\n\x1b[2Jmousev1: wrote model\x07"


def test_names_with_terminal_escapes_are_listed_escaped() -> None:
    assert listing([EVIL]) == f"'{SHOWN}'"


def test_names_of_files_members_columns_and_keys_reach_messages_escaped(tmp_path: Path) -> None:
    picture = tmp_path / f"{EVIL}.png"
    picture.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="not a sound picture") as of_picture:
        prepare_images(picture, InputContract())
    root = make_tree(tmp_path / "tree")
    with zipfile.ZipFile(zip_tree(root, tmp_path / "x.zip", top=f"{EVIL}/")) as archive:
        assert EVIL in archive.namelist()[0]
    np.save(root / f"data/images/{EVIL}.npy", np.zeros(1))
    with pytest.raises(ValueError, match="expected trials") as of_member:
        read_scan(root)
    table = tmp_path / "log.csv"
    table.write_text(f'"{EVIL}",b\n1,2,3\n')
    with pytest.raises(ValueError, match="expected") as of_column:
        read_table(table)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        assert SHOWN in where(file.create_group(EVIL))
    report = Report()
    report.notes.append(f"rig: not used: {EVIL}")
    for message in (str(of_picture.value), str(of_member.value), str(of_column.value), report.text()):
        assert "\x1b" not in message
        assert "\x07" not in message


def test_command_line_prints_names_escaped(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mousev1", "info", str(tmp_path / f"{EVIL}.h5")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    assert r"\x1b[2J" in done.stderr


def test_sound_json_of_a_rig_still_reads(tmp_path: Path) -> None:
    from mousev1.ingest.rig import read_rig

    path = text(tmp_path / "rig.json", json.dumps({"screen_width_cm": 30, "screen": {"distance_cm": 18.5}}))
    rig = read_rig(path, Report())
    assert (rig.screen_width_cm, rig.screen_distance_cm) == (30.0, 18.5)

"""Scans on disk. Oracles: hand-made file trees, the published format's own facts, round trips."""

from __future__ import annotations

import itertools
import os
import pickle
import stat
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mousev1.data.io import read_scan
from mousev1.data.npy import decode, encode
from mousev1.data.scan import Scan

REAL = "scans/static26872-17-20-twin-preproc0.zip"
CONTAINERS = ["scan.h5", "scan.hdf5", "scan.zip", "scan"]


def make_scan(seed: int = 0, *, trials: int = 12, units: int = 5, **changes: Any) -> Scan:
    """A scan with everything in it: ids out of order, text beyond ASCII, odd values."""
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "name": "static1-2-3-préproc0",
        "images": rng.integers(0, 256, (4, 1, 16, 18), np.uint8),
        "image_ids": np.array([50, 10, 40, 20]),
        "trial_image": np.resize([3, 0, 1, 2, 2, 3], trials),
        "tiers": np.resize(["train", "train", "validation", "test", "test", "train"], trials),
        "responses": rng.gamma(1.0, size=(trials, units)).astype(np.float32),
        "unit_ids": 100 - np.arange(units),
        "positions": rng.normal(size=(units, 3)).astype(np.float32) * 300,
        "match_ids": np.resize([-1, 3, 2**40], units),
        "animal_id": "26872",
        "neuron_meta": {
            "area": np.resize(["V1", "LM·"], units),
            "depth": rng.normal(size=units),
            "field": np.resize(np.array([1, 2, 3], np.int16), units),
            "good": np.resize([True, False], units),
        },
        "covariates": {
            "running": rng.gamma(1.0, size=trials),
            "pupil_radius": np.where(np.arange(trials) % 5 == 0, np.nan, 2.0).astype(np.float32),
            "trial_order": rng.permutation(trials),
        },
    }
    return Scan(**(values | changes))


def make_tree(root: Path, **files: Any) -> Path:
    """The smallest published tree: 4 trials of 3 pictures, 2 neurons; ``meta__trials__tiers=`` is that file."""
    pictures = np.arange(3 * 16 * 16, dtype=np.uint8).reshape(3, 1, 16, 16)
    arrays: dict[str, Any] = {
        "meta/trials/tiers": np.array(["train", "validation", "test", "test"]),
        "meta/trials/frame_image_id": np.array([9, 4, 7, 7]),
        "meta/neurons/unit_ids": np.array([1, 2]),
        "meta/neurons/cell_motor_coordinates": np.array([[0, 1, 2], [3, 4, 5]]),
    }
    for trial, picture in enumerate([0, 1, 2, 2]):
        arrays[f"data/images/{trial}"] = pictures[picture]
        arrays[f"data/responses/{trial}"] = np.array([trial, 0.5])
    arrays |= {name.replace("__", "/"): array for name, array in files.items()}
    for name, array in arrays.items():
        if array is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(root / f"{name}.npy", array)
    return root


def zip_tree(root: Path, path: Path, *, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, f"{top}{file.relative_to(root).as_posix()}")
    return path


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", CONTAINERS)
def test_reading_what_was_written_gives_the_same_scan(name: str, tmp_path: Path) -> None:
    scan = make_scan()
    assert scan.write(tmp_path / name) == tmp_path / name
    again = read_scan(tmp_path / name)
    assert again == scan
    assert again.image_ids.tolist() == [50, 10, 40, 20]
    assert again.neuron_meta["good"].dtype == bool
    assert again.neuron_meta["field"].dtype == np.int16
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize(
    "changes",
    [
        {"positions": None, "match_ids": None, "animal_id": None, "neuron_meta": {}},
        {"images": np.random.default_rng(0).normal(size=(4, 3, 16, 16)), "positions": np.zeros((5, 2))},
        {"image_ids": ["é", "b", "a/1", "10"], "animal_id": "mouse 007"},
        {"responses": np.zeros((12, 5)), "animal_id": "007"},
        {"neuron_meta": {"animal_ids": np.arange(5), "two columns": np.ones((5, 2))}, "animal_id": None},
    ],
    ids=["bare", "float colour", "text ids", "silent", "several animals"],
)
def test_every_kind_of_scan_survives_the_round_trip(
    name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    scan = make_scan(**changes)
    scan.write(tmp_path / name)
    assert read_scan(tmp_path / name) == scan


def test_the_same_scan_gives_the_same_zip_byte_for_byte(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        make_scan().write(tmp_path / folder / "x.zip")
    assert (tmp_path / "a/x.zip").read_bytes() == (tmp_path / "b/x.zip").read_bytes()


@pytest.mark.parametrize("name", CONTAINERS)
def test_writing_never_replaces_anything_unasked(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    make_scan(0).write(path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        make_scan(1).write(path)
    assert read_scan(path) == make_scan(0)
    make_scan(1).write(path, overwrite=True)
    assert read_scan(path) == make_scan(1)
    assert os.listdir(tmp_path) == [name]


def test_overwrite_does_not_delete_a_folder_that_is_no_scan(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    with pytest.raises(FileExistsError, match="replaces a scan"):
        make_scan().write(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_failed_write_leaves_the_old_scan_and_no_rubbish(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    make_scan(0).write(path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("mousev1.data.io.write_hdf5", full)
    monkeypatch.setattr("mousev1.data.file_tree_writer._statistics", full)
    with pytest.raises(OSError, match="no space left"):
        make_scan(1).write(path, overwrite=True)
    assert read_scan(path) == make_scan(0)
    assert os.listdir(tmp_path) == [name]


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"path: expected a name ending in '.h5', '.hdf5', '.zip'"):
        make_scan().write(tmp_path / "scan.mat")
    (tmp_path / "scan.mat").write_bytes(b"")
    with pytest.raises(ValueError, match=r"scan.mat: expected a folder or a file ending in"):
        read_scan(tmp_path / "scan.mat")
    with pytest.raises(FileNotFoundError, match="nothing there"):
        read_scan(tmp_path / "absent.zip")


# ---------------------------------------------------------------- the published tree


@pytest.mark.parametrize("top", ["", "static1-2-3/"])
def test_a_published_tree_is_read_by_hand_computed_contents(top: str, tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree" / top)
    for path in (tmp_path / "tree", zip_tree(tmp_path / "tree", tmp_path / "download.zip")):
        scan = read_scan(path)
        assert scan.name == (top[:-1] or path.stem)
        assert scan.image_ids.tolist() == [4, 7, 9]
        assert scan.trial_image.tolist() == [2, 0, 1, 1]
        assert scan.responses.tolist() == [[0, 0.5], [1, 0.5], [2, 0.5], [3, 0.5]]
        assert (scan.images[1] == np.load(root / "data/images/3.npy")).all()
        assert scan.positions is not None
        assert scan.positions.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert (scan.match_ids, scan.animal_id) == (None, None)


def test_neuron_files_become_fields_and_other_folders_are_passed_over(tmp_path: Path) -> None:
    root = make_tree(
        tmp_path / "tree",
        meta__neurons__animal_ids=np.array([20457, 20457]),
        meta__neurons__multi_match_id=np.array([-1, 12]),
        meta__neurons__layer=np.array([b"L2/3", b"L4"]),
        data__behavior__0=np.zeros(2),
        meta__statistics__responses__all__std=np.zeros(3),
    )
    (root / "config.json").write_text("{}")
    (root / "data/images/.DS_Store").write_bytes(b"x")
    (tmp_path / "__MACOSX" / "data" / "images").mkdir(parents=True)
    scan = read_scan(zip_tree(tmp_path, tmp_path.parent / f"{tmp_path.name}.zip"))
    assert scan.animal_id == "20457"
    assert scan.match_ids is not None
    assert scan.match_ids.tolist() == [-1, 12]
    assert {name: values.tolist() for name, values in scan.neuron_meta.items()} == {"layer": ["L2/3", "L4"]}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64])
def test_pictures_of_other_numbers_and_without_channel_become_float32(dtype: Any, tmp_path: Path) -> None:
    pictures = {f"data__images__{i}": np.full((16, 16), 10 * min(i, 2), dtype) for i in range(4)}
    scan = read_scan(make_tree(tmp_path, **pictures))
    assert (scan.images.shape, scan.images.dtype) == ((3, 1, 16, 16), np.float32)
    assert scan.images[:, 0, 0, 0].tolist() == [10, 20, 0]


@pytest.mark.parametrize("name", ["image_id", "colorframeprojector_image_id", "condition_hash"])
def test_image_ids_may_have_their_other_published_names(name: str, tmp_path: Path) -> None:
    ids = np.array(["x", "y", "z", "z"]) if name == "condition_hash" else np.array([1, 2, 3, 3])
    files = {"meta__trials__frame_image_id": None, f"meta__trials__{name}": ids}
    assert read_scan(make_tree(tmp_path, **files)).image_ids.tolist() == sorted(set(ids.tolist()))


def test_a_number_shared_by_two_classes_of_pictures_is_two_pictures(tmp_path: Path) -> None:
    root = make_tree(
        tmp_path,
        meta__trials__frame_image_id=np.array([1, 1, 2, 2]),
        meta__trials__frame_image_class=np.array(["imagenet", "noise", "noise", "noise"]),
    )
    assert read_scan(root).image_ids.tolist() == ["imagenet/1", "noise/1", "noise/2"]


def test_trials_without_tier_are_left_out_and_need_not_exist(tmp_path: Path) -> None:
    root = make_tree(
        tmp_path,
        meta__trials__tiers=np.array(["train", "none", "", "test"]),
        data__images__1=None,
        data__responses__2=None,
    )
    scan = read_scan(root)
    assert scan.tiers.tolist() == ["train", "test"]
    assert scan.image_ids.tolist() == [7, 9]


def test_unknown_tiers_are_listed_and_the_caller_says_what_they_mean(tmp_path: Path) -> None:
    root = make_tree(tmp_path, meta__trials__tiers=np.array(["train", "train", "final_test", "final_test"]))
    with pytest.raises(
        ValueError, match=r"tiers.npy: .*'final_test' \(2 trials\); pass tiers=\{'final_test': None\}"
    ):
        read_scan(root)
    assert read_scan(root, tiers={"final_test": None}).tier_sizes == {"train": 2}
    assert read_scan(root, tiers={"final_test": "test"}).tier_sizes == {"train": 2, "test": 2}
    with pytest.raises(ValueError, match=r"tiers: expected each to become one of .*'holdout'"):
        read_scan(root, tiers={"final_test": "holdout"})
    with pytest.raises(ValueError, match=r"tiers: 'live' not in this scan"):
        read_scan(root, tiers={"live": None})
    with pytest.raises(ValueError, match="expected at least one trial in a tier"):
        read_scan(root, tiers={"final_test": None, "train": None})


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_withheld_responses_are_never_taken_for_data(value: float, tmp_path: Path) -> None:
    blank = {f"data__responses__{trial}": np.full(2, value) for trial in (2, 3)}
    root = make_tree(tmp_path, **blank)
    with pytest.raises(
        ValueError, match=r"tier 'test' are zero or NaN \(2 trials\): withheld.*tiers=\{'test': None\}"
    ):
        read_scan(root)
    assert read_scan(root, tiers={"test": None}).tier_sizes == {"train": 1, "validation": 1}


def test_leaving_a_tier_out_of_a_tree_of_ours_drops_its_images(tmp_path: Path) -> None:
    make_scan().write(tmp_path / "x.zip")
    assert read_scan(tmp_path / "x.zip", tiers={"test": None}).image_ids.tolist() == [50, 10, 20]


# ---------------------------------------------------------------- broken trees


def broken(message: str, **files: Any) -> Any:
    return pytest.param(files, message, id=",".join(files))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        broken(r"meta/trials/tiers.npy: missing", meta__trials__tiers=None),
        broken(r"frame_image_id.npy: missing.*other names", meta__trials__frame_image_id=None),
        broken(r"data/images/1.npy: missing \(1 of 4", data__images__1=None),
        broken(r"data/responses/2.npy: missing \(2 of 4", data__responses__2=None, data__responses__3=None),
        broken(r"data/images/9.npy: expected trials 0 to 3", data__images__9=np.zeros((1, 16, 16), np.uint8)),
        broken(
            r"images/3.npy: expected uint8 \(1, 16, 16\)", data__images__3=np.zeros((1, 16, 15), np.uint8)
        ),
        broken(r"images/1.npy: expected uint8 .*got float64", data__images__1=np.zeros((1, 16, 16))),
        broken(r"images/3.npy: differs from an earlier", data__images__3=np.ones((1, 16, 16), np.uint8)),
        broken(r"responses/1.npy: expected \(2,\) numbers", data__responses__1=np.zeros(3)),
        broken(r"responses/1.npy: expected \(2,\) numbers", data__responses__1=np.array(["a", "b"])),
        broken(r"frame_image_id.npy: expected 4 ids", meta__trials__frame_image_id=np.arange(3)),
        broken(r"frame_image_id.npy: image_ids: expected whole", meta__trials__frame_image_id=np.ones(4)),
        broken(r"unit_ids.npy: expected 2 rows", meta__neurons__unit_ids=np.arange(3)),
        broken(
            r"cell_motor_coordinates.npy: expected 2 rows",
            meta__neurons__cell_motor_coordinates=np.ones((3, 3)),
        ),
        broken(r"tiers.npy: expected a list of names, got int64", meta__trials__tiers=np.arange(4)),
        broken(
            r"tiers.npy: holds pickled .*never loaded", meta__trials__tiers=np.array(["train"] * 4, object)
        ),
        broken(
            r"tiers: .*1 images in several", meta__trials__tiers=np.array(["train", "train", "train", "test"])
        ),
        broken(r"responses: .*1 negative", data__responses__1=np.array([-1.0, 0])),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_broken_tree_is_refused_naming_the_member(
    files: dict[str, Any], message: str, zipped: bool, tmp_path: Path
) -> None:
    path = make_tree(tmp_path / "tree", **files)
    if zipped:
        path = zip_tree(path, tmp_path / "tree.zip", top="tree/")
    with pytest.raises(ValueError, match=message):
        read_scan(path)


def test_an_unusable_extra_file_about_neurons_is_left_out_with_a_warning(tmp_path: Path) -> None:
    root = make_tree(tmp_path, meta__neurons__names=np.array(["a", None]), meta__neurons__grid=np.zeros(7))
    with pytest.warns(UserWarning, match="left out of neuron_meta") as caught:
        scan = read_scan(root)
    assert len(caught) == 2
    assert dict(scan.neuron_meta) == {}


def test_loading_never_runs_code_from_a_pickle(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    root = make_tree(tmp_path / "tree")
    header = encode(np.zeros(4))[:10] + b"{'descr': '|O', 'fortran_order': False, 'shape': (4,)}"
    data = header[:8] + struct.pack("<H", len(header) - 10) + header[10:] + pickle.dumps([Bomb()] * 4)
    (root / "meta/trials/tiers.npy").write_bytes(data)
    with pytest.raises(ValueError, match="pickled Python objects"):
        read_scan(root)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("keep", [0, 10, 1000, -1, -100])
def test_a_truncated_zip_is_refused_with_its_name(keep: int, tmp_path: Path) -> None:
    data = zip_tree(make_tree(tmp_path / "tree"), tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[:keep])
    with pytest.raises(ValueError, match=r"cut.zip: not a sound zip"):
        read_scan(tmp_path / "cut.zip")


def test_a_flipped_bit_in_a_zip_is_noticed_and_located(tmp_path: Path) -> None:
    path = zip_tree(make_tree(tmp_path / "tree"), tmp_path / "x.zip")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("data/responses/2.npy")
    data = bytearray(path.read_bytes())
    data[info.header_offset + 30 + len(info.filename) + 40] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x.zip: data/responses/2.npy: (damaged|truncated|not a|expected)"):
        read_scan(path)


@pytest.mark.parametrize(
    "name", ["../evil.npy", "a/../../evil.npy", "/etc/evil.npy", "C:/evil.npy", "..\\evil.npy"]
)
def test_zips_with_names_that_lead_outside_are_refused(name: str, tmp_path: Path) -> None:
    path = zip_tree(make_tree(tmp_path / "tree"), tmp_path / "x.zip")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"")
    with pytest.raises(ValueError, match="points outside"):
        read_scan(path)


def test_zips_with_symbolic_links_are_refused(tmp_path: Path) -> None:
    path = zip_tree(make_tree(tmp_path / "tree"), tmp_path / "x.zip")
    link = zipfile.ZipInfo("data/images/4.npy")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="symbolic link"):
        read_scan(path)


def test_reading_a_zip_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    read_scan(zip_tree(make_tree(tmp_path / "tree"), tmp_path / "only" / "x.zip"))
    assert os.listdir(tmp_path / "only") == ["x.zip"]


def test_empty_folders_other_folders_and_several_scans_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a scan: expected data/images"):
        read_scan(tmp_path)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("notes.txt", "")
    with pytest.raises(ValueError, match=r"x.zip: not a scan"):
        read_scan(tmp_path / "x.zip")
    make_tree(tmp_path / "both" / "a")
    make_tree(tmp_path / "both" / "b")
    with pytest.raises(ValueError, match=r"expected one scan, got 2 \(a, b"):
        read_scan(tmp_path / "both")


@pytest.mark.parametrize("name", ["scan", "scan.zip"])
def test_a_newer_tree_of_ours_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mousev1.data.file_tree_writer.FORMAT_VERSION", 2)
        make_scan().write(tmp_path / name)
    with pytest.raises(
        ValueError, match=r"format version 2 is newer than this mousev1 reads \(1\).*pip install"
    ):
        read_scan(tmp_path / name)


# ---------------------------------------------------------------- .npy


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(3.5),
        np.array(["a", "bcd"]),
        np.zeros((0, 3), np.float16),
    ],
)
def test_npy_bytes_agree_with_numpy_both_ways(array: np.ndarray[Any, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "numpy.npy", array)
    np.testing.assert_array_equal(decode((tmp_path / "numpy.npy").read_bytes(), "x"), array)
    (tmp_path / "ours.npy").write_bytes(encode(array))
    np.testing.assert_array_equal(np.load(tmp_path / "ours.npy"), array)


@pytest.mark.parametrize("keep", [0, 3, 7, 9, 20, 127, 128, -1])
def test_truncated_npy_bytes_are_refused(keep: int) -> None:
    with pytest.raises(ValueError, match=r"^here: "):
        decode(encode(np.arange(3))[:keep], "here")


# ---------------------------------------------------------------- HDF5


def test_the_documented_hdf5_layout_is_enough_to_write_a_scan_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "hand.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "mousev1 scan"
        file.attrs["format_version"] = 1
        file.attrs["name"] = "hand"
        file["images"] = np.zeros((2, 1, 16, 16))
        file["image_ids"] = np.array([5, 6], np.int32)
        file["trials/image"] = np.array([0, 1, 1], np.uint8)
        file["trials/tier"] = np.array([b"train", b"test", b"test"])
        file["responses"] = np.array([[1.0], [2.0], [3.0]])
        file["neurons/unit_ids"] = np.array([9], np.int16)
        file["elsewhere/notes"] = 1
    scan = read_scan(path)
    assert scan.trials("test").responses.tolist() == [[2], [3]]
    assert scan.images.dtype == np.float32
    assert (scan.name, scan.animal_id, scan.positions) == ("hand", None, None)


def changed_h5(path: Path, change: Callable[[Any], None]) -> Path:
    make_scan().write(path)
    with h5py.File(path, "a") as file:
        change(file)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.attrs.modify("format_version", 2), r"format version 2 is newer.*pip install"),
        (
            lambda f: f.attrs.__delitem__("format_version"),
            r"whole number as the attribute format_version, got None",
        ),
        (lambda f: f.attrs.modify("format", "other"), r"not a scan: expected the attribute format"),
        (lambda f: f.__delitem__("responses"), r"responses: missing"),
        (lambda f: f.__delitem__("trials/tier"), r"trials/tier: missing"),
        (lambda f: f["responses"].__setitem__((1, 2), -1), r"responses: .*1 negative"),
        (lambda f: f["trials/image"].__setitem__(0, 99), r"trial_image: .*first 99 in trial 0"),
    ],
)
def test_broken_hdf5_is_refused_by_name(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_scan(changed_h5(tmp_path / "x.h5", change))


def test_altered_responses_in_hdf5_are_noticed_by_their_checksum(tmp_path: Path) -> None:
    scan = make_scan()
    path = scan.write(tmp_path / "x.h5")
    data = path.read_bytes()
    at = data.index(scan.responses[3].tobytes())
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(ValueError, match=r"x.h5: damaged"):
        read_scan(path)


@pytest.mark.parametrize("name", ["x.h5", "x.zip"])
def test_no_damage_gives_anything_but_a_clear_error_or_the_scan(name: str, tmp_path: Path) -> None:
    data = make_scan().write(tmp_path / name).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        changed = bytearray(data)
        for position in rng.integers(0, len(data), size=3):
            changed[position] = rng.integers(256)
        (tmp_path / name).write_bytes(changed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read_scan(tmp_path / name)
        except (ValueError, TypeError):
            refused += 1
    assert refused > 50


def test_hdf5_that_points_to_another_file_is_refused(tmp_path: Path) -> None:
    make_scan().write(tmp_path / "other.h5")

    def link(file: Any) -> None:
        del file["responses"]
        file["responses"] = h5py.ExternalLink("other.h5", "/responses")

    with pytest.raises(ValueError, match="responses: expected a dataset inside this file"):
        read_scan(changed_h5(tmp_path / "x.h5", link))


def test_truncated_hdf5_and_the_older_layout_are_refused(tmp_path: Path) -> None:
    path = make_scan().write(tmp_path / "x.h5")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"x.h5: not a sound HDF5 file"):
        read_scan(path)
    with h5py.File(tmp_path / "old.h5", "w") as file:
        for name in ("images", "responses", "item_info", "tiers"):
            file[name] = 0
    with pytest.raises(ValueError, match="older HDF5 layout of neuralpredictors"):
        read_scan(tmp_path / "old.h5")


# ---------------------------------------------------------------- what the authors' library needs


def test_statistics_are_those_of_the_definition(tmp_path: Path) -> None:
    scan = make_scan()
    scan.write(tmp_path / "x")
    shown = scan.images[scan.trial_image]
    for source, rows in (("all", slice(None)), ("train", scan.tiers == "train")):
        for name in ("mean", "std", "min", "max", "median"):
            function = getattr(np, name)
            stored = tmp_path / "x" / "meta" / "statistics"
            np.testing.assert_allclose(
                np.load(stored / "responses" / source / f"{name}.npy"),
                function(scan.responses[rows].astype(float), axis=0),
                rtol=1e-6,
            )
            image = np.load(stored / "images" / source / f"{name}.npy")
            assert image.shape == ()
            np.testing.assert_allclose(image, function(shown[rows].astype(float)), rtol=1e-6)


def test_a_zip_extracts_to_the_folder_that_the_authors_library_expects(tmp_path: Path) -> None:
    make_scan().write(tmp_path / "static1-2-3-preproc0.zip")
    with zipfile.ZipFile(tmp_path / "static1-2-3-preproc0.zip") as archive:
        archive.extractall(tmp_path)
    root = tmp_path / "static1-2-3-preproc0"
    for name in ("images", "responses"):
        assert sorted(os.listdir(root / "data" / name)) == sorted(f"{trial}.npy" for trial in range(12))
    trials = {name: len(np.load(root / "meta/trials" / name)) for name in os.listdir(root / "meta/trials")}
    assert trials == dict.fromkeys(
        ["tiers.npy", "frame_image_id.npy", "frame_image_class.npy", "trial_idx.npy"], 12
    )
    assert np.load(root / "meta/neurons/animal_ids.npy").tolist() == [26872] * 5


# ---------------------------------------------------------------- a scan of real size

MEASURE = """
import resource, sys, time
import mousev1.data.io
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
before, start = peak(), time.perf_counter()
scan = mousev1.data.io.read_scan(sys.argv[1])
print(time.perf_counter() - start, (peak() - before) / (scan.images.nbytes + scan.responses.nbytes))
"""


def test_a_scan_of_5335_neurons_reads_in_seconds_within_twice_its_memory(
    shared: Callable[[str], Path],
) -> None:
    command = [sys.executable, "-c", MEASURE, str(shared(REAL))]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds, memory = map(float, output.split())
    assert seconds < 20  # 1.4 s on an idle machine of 2 cores
    assert memory < 2.0


def test_the_real_scan_has_the_contents_its_makers_describe(
    shared: Callable[[str], Path], tmp_path: Path
) -> None:
    scan = read_scan(shared(REAL))
    assert (scan.n_units, scan.n_images, scan.n_trials) == (5335, 4472 + 500 + 100, 4472 + 500 + 1000)
    assert scan.tier_sizes == {"train": 4472, "validation": 500, "test": 1000}
    assert (np.unique(scan.trials("test").image_ids, return_counts=True)[1] == 10).all()
    assert (scan.animal_id, scan.images.shape[1:], scan.images.dtype) == ("26872", (1, 36, 64), np.uint8)
    with zipfile.ZipFile(shared(REAL)) as archive:

        def published(member: str) -> Any:
            return decode(archive.read(f"{scan.name}/{member}.npy"), member)

        for trial in (0, 17, 5971):
            assert (scan.responses[trial] == published(f"data/responses/{trial}")).all()
            assert (scan.images[scan.trial_image[trial]] == published(f"data/images/{trial}")).all()
    scan.select_units(np.arange(40)).write(tmp_path / "few.zip")
    with zipfile.ZipFile(shared(REAL)) as theirs, zipfile.ZipFile(tmp_path / "few.zip") as ours:
        for source, name in itertools.product(("all", "train"), ("mean", "std", "min", "max", "median")):
            member = f"meta/statistics/responses/{source}/{name}.npy"
            np.testing.assert_allclose(
                decode(ours.read(f"few/{member}"), member),
                decode(theirs.read(f"{scan.name}/{member}"), member)[:40],
                rtol=2e-5,
                err_msg=member,
            )


def test_writing_25_million_responses_takes_seconds(tmp_path: Path) -> None:
    count = 5000
    rng = np.random.default_rng(0)
    scan = Scan(
        name="large",
        images=rng.integers(0, 256, (count, 1, 36, 64), np.uint8),
        image_ids=np.arange(count),
        trial_image=np.arange(count),
        tiers=np.full(count, "train"),
        responses=rng.random((count, count), np.float32),
        unit_ids=np.arange(count),
    )
    for name, limit in (("x.h5", 15), ("x.zip", 60)):
        start = time.perf_counter()
        scan.write(tmp_path / name)
        assert time.perf_counter() - start < limit, name
    assert read_scan(tmp_path / "x.h5") == scan

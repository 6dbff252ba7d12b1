"""Mutated files of every format: a clear error or the same content, no hang, and memory within a bound.

The corpus is written anew by what writes these formats; mutations come from a seed, so that a failure comes again.
Every reader gets 300, and 3,000 with ``-m slow`` or as many as ``MOUSEV1_FUZZ_MUTATIONS`` says;
``MOUSEV1_FUZZ_SEED`` is another seed. They run in one further process.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from artifacts import tiny_core, tiny_model
from ingest.sessions import (
    mat_variables,
    small_session,
    write_caiman,
    write_log,
    write_mat73,
    write_pictures,
    write_suite2p,
)
from mousev1.hub.model_files import save_model
from mousev1.storage.core_files import save_core
from reader_batch import Outcome, run_batch
from test_formats import make_scan, make_tree, zip_tree

FAST, FULL = 300, 3000
SEED = int(os.environ.get("MOUSEV1_FUZZ_SEED", "0"))
CLEAR = {
    "ValueError", "TypeError", "FileNotFoundError", "FileExistsError", "NotADirectoryError", "IsADirectoryError",
    "OSError", "DamagedFileError", "UnicodeDecodeError",
}  # fmt: skip
MEMORY_ALLOWED = 400_000_000
SECONDS_PER_CASE = 20

Corpus = tuple[str, Callable[[Path], Path]]


def _matlab5(root: Path) -> Path:
    session = small_session(planes=1, frames=60)
    scipy.io.savemat(root / "x.mat", mat_variables(session), do_compression=True)
    return root / "x.mat"


def _npz(root: Path) -> Path:
    variables = {
        k: v for k, v in mat_variables(small_session(planes=1, frames=60)).items() if k in ("spks", "fs")
    }
    np.savez(root / "x.npz", **variables)
    return root / "x.npz"


def _npy(root: Path) -> Path:
    np.save(root / "x.npy", np.arange(60.0).reshape(3, 4, 5))
    return root / "x.npy"


def _checkpoint(root: Path) -> Path:
    """A core's numbers under the names of neuralpredictors."""
    parts = {"conv": "conv", "norm": "norm", "pointwise_in": "ds_conv.in_depth_conv"}
    parts |= {"depthwise": "ds_conv.spatial_conv", "pointwise_out": "ds_conv.out_depth_conv"}
    state = {}
    for key, value in tiny_core().state_dict().items():
        _, layer, part, rest = key.split(".", 3)
        state[f"features.layer{layer}.{parts[part]}.{rest}"] = value
    torch.save(state, root / "x.pt")
    return root / "x.pt"


def _manifest(root: Path) -> Path:
    lines = ["image_id,file,class,unit_id,contrast,extrapolation,gamma,unit_3,unit_5"]
    lines += [f"{1_000_000 + i},{i}-mei.png,mei,{3 if i % 2 else ''},0.1,,1.8,{i}.5,2" for i in range(6)]
    (root / "manifest.csv").write_text("\n".join(lines))
    return root


def _rig(root: Path) -> Path:
    (root / "rig.json").write_text(
        '{"screen": {"width_cm": 36.4, "height [mm]": 243, "distance_cm": 18}, "um_per_pixel": [1.3, 1.2], "gray": 113}'
    )
    return root / "rig.json"


CORPUS: dict[str, Corpus] = {
    "scan zip": ("scan", lambda root: zip_tree(make_tree(root / "tree"), root / "x.zip")),
    "scan folder": ("scan", lambda root: make_tree(root / "scan")),
    "scan HDF5": ("scan", lambda root: make_scan().write(root / "x.h5")),
    "npy": ("npy", _npy),
    "PNG": ("pictures", lambda root: write_pictures(small_session(), root / "p")),
    "JPEG": ("pictures", lambda root: write_pictures(small_session(), root / "p", "jpg")),
    "TIFF": ("pictures", lambda root: write_pictures(small_session(), root / "p", "tif")),
    "GIF": ("pictures", lambda root: write_pictures(small_session(), root / "p", "gif")),
    "core": ("core", lambda root: save_core(tiny_core(), root / "core")),
    "model": ("model", lambda root: save_model(tiny_model(), root / "model", include_core=True)),
    "checkpoint": ("checkpoint", _checkpoint),
    "suite2p": ("suite2p", lambda root: write_suite2p(small_session(planes=1, frames=60), root / "s")),
    "caiman": ("caiman", lambda root: write_caiman(small_session(planes=1, frames=60), root)[0]),
    "MATLAB 5": ("matlab", _matlab5),
    "MATLAB 7.3": (
        "matlab",
        lambda root: write_mat73(root / "x.mat", mat_variables(small_session(planes=1))),
    ),
    "npz": ("arrays", _npz),
    "log": ("table", lambda root: write_log(small_session(), root / "log.csv")),
    "rig": ("rig", _rig),
    "manifest": ("manifest", _manifest),
}
CHECKSUMMED = ("core", "model")
"""Formats that notice every change of the numbers they read."""

TOKENS = (
    b"\xff\xff\xff\xff",
    b"\x00" * 8,
    b"\x7f\xff\xff\xff",
    b"9" * 400,
    b"[" * 200,
    b"1e999",
    b"NaN",
    b"-1",
    b"\x1b[2J",
    b",",
)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The data with one to four changes: bits, bytes, numbers at their limits, parts cut, repeated or moved."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(max(len(changed), 1)))
        length = int(rng.integers(1, 64))
        kind = rng.integers(7)
        if not changed or kind == 0:
            changed[at:at] = TOKENS[rng.integers(len(TOKENS))]
        elif kind == 1:
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            changed[at] = int(rng.integers(256))
        elif kind == 3:
            token = TOKENS[rng.integers(len(TOKENS))]
            changed[at : at + len(token)] = token
        elif kind == 4:
            del changed[at : at + length]
        elif kind == 5:
            changed[at:at] = changed[at : at + length]
        elif rng.random() < 0.3:
            del changed[at:]
        else:
            other = int(rng.integers(len(changed)))
            changed[at : at + length] = changed[other : other + length]
    return bytes(changed)


def mutate(source: Path, target: Path, rng: np.random.Generator) -> Path:
    """A copy of a file, or of a folder in which one file is changed or, now and then, missing."""
    if source.is_file():
        target = target.with_suffix(source.suffix)
        target.write_bytes(mutated(source.read_bytes(), rng))
        return target
    shutil.copytree(source, target)
    files = sorted(path for path in target.rglob("*") if path.is_file())
    chosen = files[rng.integers(len(files))]
    if rng.random() < 0.05:
        chosen.unlink()
    else:
        chosen.write_bytes(mutated(chosen.read_bytes(), rng))
    return target


def fuzz(names: Iterable[str], root: Path, count: int) -> dict[str, list[Outcome]]:
    """What the sound file of every format, and then ``count`` mutations of it, do."""
    cases = []
    for name in names:
        reader, write = CORPUS[name]
        folder = root / name
        (folder / "sound").mkdir(parents=True)
        sound = write(folder / "sound")
        rng = np.random.default_rng([SEED, *name.encode()])
        # twice: what a first use takes is no part of what a file takes
        paths = [sound, sound, *(mutate(sound, folder / f"case{i}", rng) for i in range(count))]
        cases += [(f"{name}, {i}", reader, path) for i, path in enumerate(paths, -2)]
    outcomes = run_batch(cases, seconds=60 + len(cases) * SECONDS_PER_CASE, per_case=SECONDS_PER_CASE)
    return {name: [outcomes[f"{name}, {i}"] for i in range(-1, count)] for name in names}


def check(name: str, sound: Outcome, *outcomes: Outcome) -> None:
    assert sound.raised is None, sound
    for i, outcome in enumerate(outcomes):
        assert outcome.raised is None or outcome.raised in CLEAR, (name, i, SEED, outcome)
        assert outcome.raised is None or outcome.message, (name, i, SEED, outcome)
        assert outcome.peak < MEMORY_ALLOWED, (name, i, SEED, outcome)
        if name in CHECKSUMMED and outcome.raised is None:
            assert outcome.content == sound.content, (name, i, SEED)
    assert any(outcome.raised for outcome in outcomes)


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Outcome]]:
    return fuzz(CORPUS, tmp_path_factory.mktemp("fuzz"), int(os.environ.get("MOUSEV1_FUZZ_MUTATIONS", FAST)))


@pytest.mark.parametrize("name", CORPUS)
def test_mutated_file_gives_a_clear_error_or_content_in_bounded_time_and_memory(
    name: str, some: dict[str, list[Outcome]]
) -> None:
    check(name, *some[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", CORPUS)
def test_3000_mutations_give_a_clear_error_or_content_in_bounded_time_and_memory(
    name: str, tmp_path: Path
) -> None:
    check(name, *fuzz([name], tmp_path, FULL)[name])


def test_the_same_seed_gives_the_same_mutations() -> None:
    first, second = (mutated(bytes(range(256)), np.random.default_rng(3)) for _ in range(2))
    assert first == second != bytes(range(256))

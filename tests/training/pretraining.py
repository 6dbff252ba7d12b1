"""Small scans and runs for the tests of pretraining."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from mousev1.data.scan import Scan

REPOSITORY = Path(__file__).resolve().parents[2]

CONFIG = """
name = "small"
scans = ["*.h5"]
seed = 3

[core]
hidden_channels = 4
layers = 2
input_kernel = 5
hidden_kernel = 3

[core.input]
mean = 128.0
std = 64.0
height = 12
width = 16

[optimisation]
batch_size = 8
max_epochs = 4
patience = 1

[compute]
device = "cpu"
threads = 1
"""


def small_scan(
    name: str, *, train: int = 24, units: int = 5, seed: int = 0, height: int = 12, width: int = 16
):
    """A scan whose neurons see one smooth spot each; every image once, but the last one twice."""
    rng = np.random.default_rng(seed)
    counts = {"train": train, "validation": 12, "test": 3}
    n = sum(counts.values())
    images = rng.integers(0, 256, (n, 1, height, width), dtype=np.uint8)
    y, x = np.mgrid[:height, :width]
    positions = rng.uniform(-1, 1, (units, 2))
    centre_x, centre_y = width / 2 + 3 * positions[:, 0], height / 2 + 2 * positions[:, 1]
    distance = (x - centre_x[:, None, None]) ** 2 + (y - centre_y[:, None, None]) ** 2
    drive = np.einsum("nhw,uhw->nu", images[:, 0] / 128.0 - 1.0, np.exp(-distance / 4.0))
    responses = np.maximum(drive + 0.2 * rng.normal(size=drive.shape), 0)
    shown = np.append(np.arange(n), n - 1)
    tiers = np.repeat(list(counts), list(counts.values()))
    return Scan(
        name=name,
        images=images,
        image_ids=np.arange(n),
        trial_image=shown,
        tiers=tiers[shown],
        responses=np.append(responses, responses[-1:], axis=0) * 10.0,
        unit_ids=np.arange(units),
        positions=np.column_stack([positions * 100.0, np.zeros(units)]),
        match_ids=np.arange(units),
        animal_id="m1",
    )


def write_study(folder: Path, config: str = CONFIG, **sizes: int) -> Path:
    """A config and three scans of different sizes beside it; returns the config's path."""
    small_scan("a", train=sizes.get("train", 24), units=5, seed=1).write(folder / "a.h5")
    small_scan("b", train=9, units=3, seed=2).write(folder / "b.h5")
    small_scan("c", train=17, units=4, seed=3).write(folder / "c.h5")
    path = folder / "config.toml"
    path.write_text(config)
    return path


def command(config: Path, out: Path, *launcher: str) -> list[str]:
    """The command line of a run, warnings being errors."""
    module = ["-m", "training.pretraining", str(config), "--out", str(out)]
    return [*(launcher or (sys.executable, "-W", "error")), *module]


def environment() -> dict[str, str]:
    """For subprocesses: one thread each, and the repository's packages importable."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


def run_command(config: Path, out: Path, *launcher: str) -> str:
    """What a run prints; fails with what it complains of."""
    done = subprocess.run(
        command(config, out, *launcher), capture_output=True, text=True, env=environment(), timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_killed(config: Path, out: Path, renames: int, after: bool) -> None:
    """For a process of its own: a run that is killed before or after so many files were put in place."""
    from training.pretraining.__main__ import main

    left = renames

    def dying(rename):
        def wrapped(source, target):
            nonlocal left
            left -= 1
            if left == 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            rename(source, target)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        return wrapped

    os.replace, os.rename = dying(os.replace), dying(os.rename)
    sys.exit(main([str(config), "--out", str(out)]))

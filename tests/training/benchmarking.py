"""Small benchmarks for the tests of the runner: one scan, one random core, runs of a second or less."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pretraining import environment, small_scan

from training.transfer_benchmark.results_table import read_rows

CONFIG = """
name = "small"
title = "Simulated: smooth spots"
simulated = true
seeds = [0, 1]
partitions = [0]

[[targets]]
name = "scan"
scope = "across-animals"
scans = ["scan.h5"]

[[cores]]
label = "random"
random = true

[[grids]]
condition = "best-core/diff-readout"
target = "scan"
cores = ["random"]
readouts = ["gaussian", "gaussian-cortex", "factorized", "fully-connected"]
methods = ["sgd"]
images = [12]
units = [4]

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

[direct.optimisation]
batch_size = 8
max_epochs = 2

[frozen.optimisation]
batch_size = 4
max_epochs = {epochs}
patience = 1000
"""

DIRECT = """
[[grids]]
condition = "direct"
target = "scan"
readouts = ["gaussian"]
images = [12]
units = [4]
"""

VOLATILE = ("seconds", "date", "machine", "command", "commit")
"""Columns that may differ between two computations of the same run."""


def write_benchmark(folder: Path, *, more: str = "", epochs: int = 3, **sizes: int) -> Path:
    """A config and a scan beside it; returns the config's path."""
    small_scan("scan", **{"train": 24, "units": 6, "seed": 4, **sizes}).write(
        folder / "scan.h5", overwrite=True
    )
    path = folder / "config.toml"
    path.write_text(CONFIG.format(epochs=epochs).replace("\n[core]\n", f"{more}\n[core]\n"))
    return path


def results(out: Path) -> dict[str, dict[str, Any]]:
    """Rows by key, without what may differ."""
    rows = {row["key"]: row for row in read_rows(out / "results.parquet")}
    return {key: {k: v for k, v in row.items() if k not in VOLATILE} for key, row in rows.items()}


def wait_for(what: Callable[[], Any], seconds: float = 120.0) -> Any:
    """The first true value of ``what()``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.02)
    raise TimeoutError(f"nothing within {seconds:g} seconds")


def marked_environment(mark: str) -> dict[str, str]:
    """An environment by which the processes of one test differ from all others."""
    return {**environment(), "MOUSEV1_TEST": mark}


def marked_processes(mark: str, title: str) -> list[int]:
    """Processes with the mark in their environment and a text in their command line."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            marked = f"MOUSEV1_TEST={mark}".encode() in (folder / "environ").read_bytes()
            if marked and title.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # gone, or not ours
    return found

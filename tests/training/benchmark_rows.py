"""Made-up rows of benchmarks, with effects that tests decide on."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from training.transfer_benchmark.results_table import COLUMNS

MACHINE = json.dumps({"cpu": "a processor", "cpus": 2, "system": "Linux"})


def make_row(value: float, **changes: Any) -> dict[str, Any]:
    """A row of results whose scores follow from one value."""
    row = {
        "benchmark": "made-up",
        "condition": "direct",
        "core": "direct",
        "core_set": "",
        "scope": "across-animals",
        "readout": "gaussian-cortex",
        "sharing": False,
        "method": "end-to-end",
        "images": 100,
        "units": 50,
        "seed": 0,
        "partition": 0,
        "validation_correlation": 0.4 * value,
        "test_correlation": 0.35 * value,
        "correlation_to_average": 0.6 * value,
        "fraction_oracle": value,
        "true_rate_correlation": 0.8 * value,
        "undefined_units": 0,
        "seconds": 2.0,
        "epochs": 10,
        "simulated": True,
        "scan": "sim-g1",
        "data_sha256": "0" * 64,
        "core_hash": "1" * 64,
        "config": "{}",
        "command": "python -m training.transfer_benchmark made-up.toml",
        "commit": "2" * 40,
        "date": "2024-01-01T00:00:00+00:00",
        "machine": MACHINE,
        "versions": "{}",
    } | changes
    row["key"] = f"{zlib.crc32(json.dumps(row, sort_keys=True).encode()):08x}"
    return {name: row[name] for name in COLUMNS}


def curve(
    images: Iterable[int],
    *,
    top: float,
    half: float,
    partitions: int = 5,
    noise: float = 0.004,
    **changes: Any,
) -> list[dict[str, Any]]:
    """Rows of a saturating curve, top n / (n + half), with a little noise per partition."""
    name = json.dumps({"top": top, "half": half, **changes}, sort_keys=True)
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return [
        make_row(top * n / (n + half) + noise * random.normal(), images=n, partition=partition, **changes)
        for n in images
        for partition in range(partitions)
    ]


PAPER_IMAGES = (50, 200, 500, 1000, 2500, 4472)

CORES = {
    "11-S": ("11-S", 0.98, 90.0),
    "4-S:matched": ("4-S:matched", 0.93, 130.0),
    "4-S:diff-animals": ("4-S:diff-animals", 0.94, 125.0),
    "1-S": ("1-S", 0.88, 170.0),
    "VGG16": ("", 0.76, 300.0),
    "random VGG16": ("", 0.56, 350.0),
    "random-128": ("", 0.50, 320.0),
    "random-64": ("", 0.44, 300.0),
}


def across_animals(
    method: str = "convex", *, direct: bool = True, cores: Iterable[str] = CORES
) -> list[dict]:
    """Rows of Figure 5."""
    rows = []
    for readout, slower in (("gaussian-cortex", 1.0), ("gaussian", 1.6)):
        common = {"readout": readout, "units": 1000}
        if direct:
            rows += curve(PAPER_IMAGES, top=0.95, half=450.0 * slower, **common)
        for label in cores:
            core_set, top, half = CORES[label]
            rows += curve(
                PAPER_IMAGES,
                top=top,
                half=half * slower,
                condition="best-core/diff-readout",
                core=label,
                core_set=core_set,
                method=method,
                **common,
            )
    return rows


def within_animal() -> list[dict[str, Any]]:
    """Rows of Figures 3 and 4."""
    rows = []
    images = (200, 1000, 4000, 17596)
    scan: dict[str, Any] = {"scope": "within-animal", "scan": "sim-a1, sim-a2, sim-a3, sim-a4"}
    for units, better in ((50, 0.0), (500, 0.06), (3597, 0.1)):
        for readout, sharing, top in (
            ("gaussian-cortex", True, 0.80),
            ("gaussian-cortex", False, 0.77),
            ("factorized", True, 0.70),
            ("factorized", False, 0.74),
        ):
            rows += curve(
                images, top=top + better, half=500, units=units, readout=readout, sharing=sharing, **scan
            )
        for condition, top, half in (
            ("best-core/diff-readout", 0.86, 150),
            ("diff-core/best-readout", 0.85, 380),
        ):
            rows += curve(
                images,
                top=top + better / 3,
                half=half,
                units=units,
                sharing=True,
                condition=condition,
                core="4-S:matched",
                core_set="4-S:matched",
                method="sgd",
                **scan,
            )
    return rows


Change = Callable[[dict[str, Any]], dict[str, Any]]


def changed(rows: Iterable[dict[str, Any]], change: Change) -> list[dict[str, Any]]:
    """Rows with some of their values replaced."""
    return [row | change(row) for row in rows]

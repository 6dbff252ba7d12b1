"""Predicted responses as files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from mousev1.insilico.extrapolation import LEVEL
from mousev1.model.response_model import FloatArray


def write_hdf5(
    path: Path,
    rates: FloatArray,
    names: Sequence[str],
    unit_ids: np.ndarray,
    extrapolation: FloatArray | None,
) -> None:
    """Rates (N, U), names of images and neurons, and how far each image is from the training images if known."""
    with h5py.File(path, "w") as file:
        file["rates"] = rates
        file["rates"].attrs["axes"] = "images, neurons"
        file["images"] = [name.encode() for name in names]
        file["unit_ids"] = unit_ids
        if extrapolation is not None:
            file["extrapolation"] = extrapolation
            file["extrapolation"].attrs["unit"] = (
                f"distance that {LEVEL:g}% of the training images stay below"
            )


def write_csv(path: Path, rates: FloatArray, names: Sequence[str], unit_ids: np.ndarray) -> None:
    """One row per image, one column per neuron."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *(f"unit_{unit}" for unit in unit_ids)])
        writer.writerows(
            [name, *(f"{rate:.7g}" for rate in row)] for name, row in zip(names, rates, strict=True)
        )

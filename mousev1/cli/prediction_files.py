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
    std: FloatArray | None,
    extrapolation: FloatArray | None,
) -> None:
    """Rates (N, U), names of images and neurons, and where known the rates' standard deviations (N, U) and how far
    each image is from the training images.
    """
    with h5py.File(path, "w") as file:
        file["rates"] = rates
        file["rates"].attrs["axes"] = "images, neurons"
        file["images"] = [name.encode() for name in names]
        file["unit_ids"] = unit_ids
        if std is not None:
            file["std"] = std
            file["std"].attrs["axes"] = "images, neurons"
        if extrapolation is not None:
            file["extrapolation"] = extrapolation
            file["extrapolation"].attrs["unit"] = (
                f"distance that {LEVEL:g}% of the training images stay below"
            )


def write_csv(
    path: Path, rates: FloatArray, names: Sequence[str], unit_ids: np.ndarray, std: FloatArray | None
) -> None:
    """One row per image, one column ``unit_<id>`` per neuron, then, where known, ``unit_<id>_std`` per neuron."""
    header, values = [f"unit_{unit}" for unit in unit_ids], rates
    if std is not None:
        header += [f"{name}_std" for name in header]
        values = np.concatenate([rates, std], axis=1)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *header])
        writer.writerows(
            [name, *(f"{value:.7g}" for value in row)] for name, row in zip(names, values, strict=True)
        )

"""Results per unit as rows and as CSV, the same for every measurement."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.storage.atomic import replacing

Columns = Mapping[str, NDArray[Any]]


def to_rows(columns: Columns) -> list[dict[str, Any]]:
    """One dict of plain values per unit, from columns (U,) by name."""
    lists = {name: column.tolist() for name, column in columns.items()}
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]


def write_csv(path: str | os.PathLike[str], columns: Columns) -> None:
    """Columns as CSV, one row per unit, ``nan`` where undefined; all of it or nothing."""
    with replacing(Path(path)) as staging, open(staging, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


def check_units(units: object, n_units: int) -> NDArray[np.int64]:
    """Indices of units (row numbers in the model, not ids), checked; all of them for ``None``.

    Raises:
        ValueError: no such unit, or none at all.
    """
    if units is None:
        return np.arange(n_units)
    index = np.atleast_1d(np.asarray(units))
    if index.ndim != 1 or index.dtype.kind not in "iu" or not len(index):
        raise ValueError(
            f"units: expected a list of whole numbers, indices of units from 0, got {units!r}; "
            "np.flatnonzero turns a mask into one"
        )
    bad = index[(index < 0) | (index >= n_units)]
    if len(bad):
        raise ValueError(
            f"units: expected indices from 0 to {n_units - 1}, as the model has {n_units} units, got "
            f"{int(bad[0])}; unit ids become indices by np.flatnonzero(np.isin(model.unit_ids, ids))"
        )
    return index.astype(np.int64)

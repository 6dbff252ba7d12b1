"""Results as a table of named columns: rows, CSV, Parquet and data frames, the same for every measurement.

A table with one row per neuron begins with the column ``unit_id``. Arrays over neurons, in Python as in HDF5 and npz
files, come with an array ``unit_ids``. Columns of a table with one row per image are named ``unit_<id>``.
"""

from __future__ import annotations

import csv
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mousev1.storage.atomic import replacing

if TYPE_CHECKING:
    from pandas import DataFrame

Columns = Mapping[str, NDArray[Any]]


class Table(ABC):
    """A result with one row per neuron, stimulus class or fit, and named columns."""

    @property
    @abstractmethod
    def columns(self) -> Columns:
        """Arrays (N,) by the name of their column; NaN where a value is undefined."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict of plain values per row."""
        lists = {name: column.tolist() for name, column in self.columns.items()}
        return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the columns as CSV, ``nan`` where undefined; all of it or nothing."""
        write_csv(path, self.columns)

    def to_dataframe(self) -> DataFrame:
        """The columns as a ``pandas.DataFrame``.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "data frames need pandas: pip install pandas (columns, to_rows and to_csv need nothing)"
            ) from error
        return DataFrame(dict(self.columns))


def write_csv(path: str | os.PathLike[str], columns: Columns) -> None:
    """Columns as CSV, one row per entry, ``nan`` where undefined; all of it or nothing."""
    with replacing(Path(path)) as staging, open(staging, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


def check_parquet() -> None:
    """Raise ``ModuleNotFoundError`` if Parquet cannot be written: before work whose results it would hold."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Parquet tables need pyarrow: pip install pyarrow (CSV needs nothing)"
        ) from error


def write_parquet(path: str | os.PathLike[str], columns: Columns) -> None:
    """Columns as Parquet, which ``check_parquet`` must allow; all of it or nothing."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({name: pyarrow.array(column) for name, column in columns.items()})
    with replacing(Path(path)) as staging:
        pyarrow.parquet.write_table(table, staging)

"""The rows of a transfer benchmark: one per run, in Parquet files that never are half written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mousev1.errors import listing
from mousev1.storage.atomic import replacing

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

RESULTS_FILE = "results.parquet"

WHAT = {
    "benchmark": "string",  # name in the config
    "condition": "string",
    "core": "string",  # label
    "core_set": "string",  # name of the scans that the core was trained on; "" where there are none
    "scope": "string",
    "readout": "string",
    "sharing": "bool",  # of feature weights between matched neurons
    "method": "string",
    "images": "int64",  # training images, of the readout or (diff-core) of the core
    "units": "int64",  # number of neurons
    "seed": "int64",  # of the model
    "partition": "int64",  # of neurons and training images
}
"""Columns of what was computed."""

SCORE_COLUMNS = {
    "validation_correlation": "validation_correlation",
    "test_correlation": "single_trial_correlation",
    "correlation_to_average": "correlation_to_average",
    "fraction_oracle": "fraction_oracle",
    "true_rate_correlation": "true_rate_correlation",  # only where the truth is known
    "undefined_units": "undefined_units",  # neurons without a test correlation
}
"""Columns of how it did, and the scores they hold (``mousev1.metrics.score_names``): means over the neurons
where a score is defined."""

COLUMNS: dict[str, str] = {
    "key": "string",  # of the run; equal for runs that mean the same computation
    **WHAT,
    **dict.fromkeys(SCORE_COLUMNS, "float64?"),
    "undefined_units": "int64",
    # how to get it again
    "seconds": "float64",
    "epochs": "int64?",
    "simulated": "bool",  # whether the responses are
    "scan": "string",
    "data_sha256": "string",
    "core_hash": "string",
    "config": "string",  # JSON of what decides the result
    "command": "string",
    "commit": "string?",
    "date": "string",
    "machine": "string",  # JSON
    "versions": "string",  # JSON
}
"""Name to type of every column, in order; ``?`` marks those that may be null, where undefined."""

SAME_RUN = (*(name for name in WHAT if name != "seed"), "scan")
"""Columns that agree between rows which differ only in the model seed."""

CHOICES: dict[str, tuple[str, ...]] = {
    "condition": ("direct", "best-core/diff-readout", "diff-core/best-readout"),
    "scope": ("within-animal", "across-animals"),
    "readout": ("gaussian", "gaussian-cortex", "factorized", "fully-connected"),
    "method": ("convex", "sgd", "end-to-end"),
}
"""What the columns of names can hold."""


def schema() -> pa.Schema:
    """The columns as a pyarrow schema; every file of rows has it."""
    pa = _pyarrow()
    types = {"string": pa.string(), "bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64()}
    return pa.schema(
        [
            pa.field(name, types[kind.rstrip("?")], nullable=kind.endswith("?"))
            for name, kind in COLUMNS.items()
        ]
    )


def write_rows(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write rows as one Parquet file, complete or not at all.

    Raises:
        ValueError: a row with missing or unknown columns, an unknown name, or null where that may not be.
    """
    rows = list(rows)
    for row in rows:
        _check(row)
    pa = _pyarrow()
    from pyarrow import parquet

    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema())
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as staging:
        parquet.write_table(table, staging)


def read_rows(path: str | Path) -> list[Row]:
    """Rows of a results file, or of all Parquet files in a folder (``results.parquet`` alone if it is there).

    One dict per row, with the columns of ``COLUMNS``; None where a score is undefined.

    Raises:
        FileNotFoundError: no such file, or no Parquet file in the folder.
        ValueError: a file with other columns.
    """
    path = Path(path)
    if path.is_dir():
        merged = path / RESULTS_FILE
        files: Sequence[Path] = [merged] if merged.is_file() else sorted(path.rglob("*.parquet"))
        if not files:
            raise FileNotFoundError(
                f"results: no Parquet file in {path}; run training.transfer_benchmark first"
            )
        return [row for file in files for row in read_rows(file)]
    if not path.is_file():
        raise FileNotFoundError(f"results: no file {path}; run training.transfer_benchmark first")
    _pyarrow()
    from pyarrow import parquet

    # One file, not a data set: names of folders are no columns.
    table = parquet.ParquetFile(path).read()
    if not table.schema.equals(schema(), check_metadata=False):
        raise ValueError(
            f"results: expected the columns {listing(COLUMNS, 40)} in {path}, got "
            f"{listing(table.schema.names, 40)}; it is not a results file of this version"
        )
    rows: list[Row] = table.to_pylist()
    return rows


def _check(row: Mapping[str, Any]) -> None:
    missing, unknown = [*COLUMNS.keys() - row.keys()], [*row.keys() - COLUMNS.keys()]
    if missing or unknown:
        raise ValueError(
            f"row: missing columns {listing(sorted(missing)) or 'none'}, unknown columns "
            f"{listing(sorted(unknown)) or 'none'}; see training.transfer_benchmark.results_table.COLUMNS"
        )
    empty = [name for name, kind in COLUMNS.items() if row[name] is None and not kind.endswith("?")]
    if empty:
        raise ValueError(f"row: expected values in {listing(empty)}, got None")
    for name, choices in CHOICES.items():
        if row[name] not in choices:
            raise ValueError(f"row: expected {name} to be one of {listing(choices)}, got {row[name]!r}")


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("results are Parquet files: pip install 'mousev1[training]'") from error
    return pyarrow

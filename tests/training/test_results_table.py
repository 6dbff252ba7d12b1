"""Claims about the table of results; the oracle is pyarrow reading the file by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from training.transfer_benchmark.results_table import COLUMNS, RESULTS_FILE, read_rows, schema, write_rows


def make_row(**changes: Any) -> dict[str, Any]:
    values = {"string": "text", "bool": True, "int64": 3, "float64": 0.1 + 0.2}
    row: dict[str, Any] = {name: values[kind.rstrip("?")] for name, kind in COLUMNS.items()}
    row |= {
        "condition": "direct",
        "scope": "across-animals",
        "readout": "gaussian",
        "method": "end-to-end",
    }
    return {**row, **changes}


def test_rows_come_back_as_they_were_written_with_null_where_undefined(tmp_path: Path) -> None:
    rows = [
        make_row(key="a", true_rate_correlation=None, epochs=None),
        make_row(key="b", test_correlation=1 / 3),
    ]
    write_rows(rows, tmp_path / "rows.parquet")

    assert read_rows(tmp_path / "rows.parquet") == rows
    stored = parquet.read_schema(tmp_path / "rows.parquet")
    assert stored.names == list(COLUMNS)
    assert str(stored.field("test_correlation").type) == "double"


def test_a_folder_is_read_from_its_merged_file_or_else_cell_by_cell(tmp_path: Path) -> None:
    for key in "ab":
        write_rows([make_row(key=key)], tmp_path / "rows" / f"{key}.parquet")
    assert [row["key"] for row in read_rows(tmp_path)] == ["a", "b"]

    write_rows([make_row(key="merged")], tmp_path / RESULTS_FILE)
    assert [row["key"] for row in read_rows(tmp_path)] == ["merged"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, "unknown columns 'extra'"),
        ({"seed": None}, "expected values in 'seed', got None"),
        ({"method": "magic"}, "method to be one of 'convex', 'sgd', 'end-to-end', got 'magic'"),
    ],
)
def test_a_row_that_does_not_fit_the_schema_is_refused_and_nothing_written(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_rows([make_row(**changes)], tmp_path / "rows.parquet")
    assert not list(tmp_path.iterdir())


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa

    parquet.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="not a results file"):
        read_rows(tmp_path / "other.parquet")
    with pytest.raises(FileNotFoundError, match=r"run training\.transfer_benchmark first"):
        read_rows(tmp_path / "none.parquet")


def test_every_column_of_the_schema_may_be_null_only_where_a_value_can_be_undefined() -> None:
    may = {field.name for field in schema() if field.nullable}
    assert may == {
        "validation_correlation",
        "test_correlation",
        "correlation_to_average",
        "fraction_oracle",
        "true_rate_correlation",
        "epochs",
        "commit",
    }


def test_a_writer_killed_at_any_instant_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows([make_row(key="0")], path)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\n"
        "from test_results_table import make_row\n"
        "from training.transfer_benchmark.results_table import write_rows\n"
        f"path = Path({str(path)!r})\n"
        "print('ready', flush=True)\n"
        "for turn in range(1, 100_000): write_rows([make_row(key=str(turn))] * 500, path)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()

    rows = read_rows(path)
    assert len({row["key"] for row in rows}) == 1
    assert len(rows) in (1, 500)

"""Tables of presentations and behaviour: CSV, TSV or Parquet to named columns, and which column is what."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.errors import listing, printable
from mousev1.ingest.recording import Table
from mousev1.storage.reading import check_unpacked

MAX_TABLE_BYTES = 1 << 30

UNITS = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "ms": ("ms", "msec", "millisecond", "milliseconds"),
    "frames": ("frame", "frames", "frameidx", "fr"),
}
_WHAT = r"(?:(?:stim|stimulus|stimuli|image|img|picture|pic|trial|visual|presentation|flip|screen|rec)_)*"
# Names without their unit, in lower case and joined by underscores; the earlier pattern wins.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "onset": (
        rf"{_WHAT}onsets?(?:_(?:time|times|idx|index))?",
        rf"{_WHAT}(?:start|starts|begin|on|t0)(?:_(?:time|times|idx|index))?|(?:time|t)_(?:on|onset|start)",
        rf"{_WHAT}(?:time|times|timestamp|timestamps|t)|frames",
    ),
    "duration": (rf"{_WHAT}(?:duration|durations|dur|length)(?:_on)?",),
    "image": (
        r"(?:(?:stim|stimulus|shown)_)?(?:image|img|picture|pic|photo)(?:_?(?:name|file|filename|path|shown|label))?",
        r"(?:(?:stim|stimulus)_)?(?:file|filename|file_name|path|name)|image_file_name|picture_file_name",
        r"(?:stim|stimulus)(?:_(?:label|shown))?",
        r"(?:(?:stim|stimulus)_)?(?:image|img|picture|pic|photo|stim|stimulus|frame_image|template)"
        r"_?(?:id|ids|idx|index|number|num|no|nr)",
        r"(?:scene|condition|frame)(?:_(?:name|label|id|idx|index|number))?",
    ),
    "tier": (r"tiers?|split|set|partition|subset|data_?set|fold",),
}


def read_table(path: str | Path) -> dict[str, NDArray[Any]]:
    """Columns of a .csv, .tsv, .txt or .parquet file: floats where every value is a number, texts otherwise.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no header, rows of other lengths, an unknown ending.
        ModuleNotFoundError: Parquet without pyarrow.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{printable(path)}: expected a table (.csv, .tsv, .parquet), found no file there"
        )
    if path.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(path)
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        raise ValueError(
            f"{path}: expected a table ending in .csv, .tsv or .parquet; save it as one of these"
        )
    if (size := path.stat().st_size) > MAX_TABLE_BYTES:
        raise ValueError(
            f"{path}: {size:,} bytes, more than the {MAX_TABLE_BYTES:,} of a table that are read"
        )
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [line for line in file if line.strip() and not line.startswith("#")]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text ({error}); save it as UTF-8") from error
    first = lines[0] if lines else ""
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [[field.strip() for field in row] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error as error:
        raise ValueError(f"{path}: not a sound table ({error}); save it again") from error
    if len(rows) < 2 or len(set(rows[0])) < len(rows[0]) or all(_is_number(name) for name in rows[0]):
        raise ValueError(
            f"{path}: expected a first line of distinct column names and lines of values below it, got {first!r}"
        )
    bad = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if bad is not None:
        raise ValueError(
            f"{path}: expected {len(rows[0])} values in every line, got {len(rows[bad])}: {lines[bad]!r}"
        )
    return {name: as_column([row[i] for row in rows[1:]]) for i, name in enumerate(rows[0])}


def _read_parquet(path: Path) -> dict[str, NDArray[Any]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{path}: Parquet needs pyarrow: pip install pyarrow, or save it as .csv"
        ) from error
    try:
        about = parquet.ParquetFile(path).metadata
        check_unpacked(printable(path), 8 * about.num_rows * about.num_columns, path.stat().st_size)
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        raise ValueError(f"{printable(path)}: not a sound Parquet table ({error}); save it again") from error
    return {name: as_column(table.column(name).to_pylist()) for name in table.column_names}


def as_column(values: Any) -> NDArray[Any]:
    """One column as floats, NaN where empty, or as texts where any value is no number."""
    texts = ["" if value is None else _text(value) for value in values]
    if all(_is_number(text) for text in texts if text.lower() not in ("", "nan", "na")):
        return np.array([float(text) if _is_number(text) else np.nan for text in texts])
    # An array gives every text the room of the longest.
    check_unpacked("a column of texts", 4 * len(texts) * max(map(len, texts)), sum(map(len, texts)))
    return np.array(texts)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.lower() != "nan"


def words(name: str) -> list[str]:
    """A column's or key's name as lower-case words: ``stimOnset (ms)`` is stim, onset, ms."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return [word for word in re.split(r"[^a-z0-9µ]+", split.lower()) if word]


def unit_of(name: str) -> tuple[str, str | None]:
    """A name's words joined without their unit of time, and that unit (``s``, ``ms``, ``frames``) or None."""
    found, rest = None, []
    for word in words(name):
        unit = next((unit for unit, forms in UNITS.items() if word in forms), None)
        found = found or unit
        rest += [] if unit else [word]
    if found == "frames" and not set(rest) - {"idx", "index", "number", "nr", "no"}:
        rest = ["frames"]
    return "_".join(rest), found


def find_column(table: Table, what: str, given: str | None = None) -> str | None:
    """The column that holds ``onset``, ``duration``, ``image`` or ``tier``, or None.

    ``given`` is its name where the user said so.

    Raises:
        ValueError: ``given`` is no column, or several columns fit equally well.
    """
    if given is not None:
        if given not in table:
            raise ValueError(f"columns: expected {what}= one of {listing(table)}, got {given!r}")
        return given
    kinds = {"image": ("U", "f"), "tier": ("U",)}.get(what, ("f",))
    # Conditions and scenes are named like images where there is nothing better.
    strict, loose = COLUMNS[what][:4], COLUMNS[what][4:]
    for kind, patterns in ((kind, patterns) for patterns in (strict, loose) for kind in kinds):
        for pattern in patterns:
            fits = [n for n in table if table[n].dtype.kind == kind and re.fullmatch(pattern, unit_of(n)[0])]
            in_seconds = [name for name in fits if unit_of(name)[1] == "s"]
            fits = in_seconds if len(in_seconds) == 1 else fits
            if len(fits) > 1:
                raise ValueError(
                    f"columns: {listing(fits)} may each be the {what}; say which with columns={{{what!r}: NAME}} "
                    f"(--column {what}=NAME)"
                )
            if fits:
                return fits[0]
    return None

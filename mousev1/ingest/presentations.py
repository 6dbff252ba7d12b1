"""When each picture was shown: a log's columns to onsets in seconds on the recording's clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.errors import check_choice, listing
from mousev1.ingest.recording import Float, Table
from mousev1.ingest.report import Report
from mousev1.ingest.tables import UNITS, find_column, unit_of

TIER_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing", "oracle"),
}


@dataclass(frozen=True, eq=False)
class Presentations:
    """T presentations in the order of their onsets.

    Attributes:
        onset: (T,) seconds.
        image: (T,) names or numbers.
        tier: (T,) train, validation or test, or None where the log does not say.
    """

    onset: Float
    image: NDArray[Any]
    tier: NDArray[np.str_] | None


@dataclass(frozen=True)
class Clock:
    """What times and numbers of frames mean.

    Attributes:
        start, end: of the recording in seconds.
        frame_times: (F,) start of each frame that numbers count.
        per_volume: frames in a volume, which a log may count instead of volumes.
    """

    start: float
    end: float
    frame_times: Float
    per_volume: int


def read_presentations(
    table: Table,
    clock: Clock,
    report: Report,
    *,
    columns: Mapping[str, str] | None = None,
    time_unit: str | None = None,
) -> Presentations:
    """Onset, image and tier of every row; rows without an onset are dropped and counted.

    ``columns`` has the names of columns for ``onset``, ``image``, ``duration`` and ``tier`` where they are
    not recognised, ``time_unit`` is ``s``, ``ms`` or ``frames`` where the column's name does not say so.

    Raises:
        ValueError: no column of onsets or images, or no onset within the recording.
    """
    columns = columns or {}
    if unknown := sorted(set(columns) - {"onset", "duration", "image", "tier"}):
        raise ValueError(f"columns: expected onset, image, duration or tier as names, got {listing(unknown)}")
    found = {
        what: find_column(table, what, columns.get(what)) for what in ("onset", "image", "tier", "duration")
    }
    onset_column, image_column = found["onset"], found["image"]
    if onset_column is None or image_column is None or onset_column == image_column:
        lacking = " and ".join(what for what in ("onset", "image") if found[what] is None) or "onset"
        raise ValueError(
            f"log: no column for {lacking} recognised among {listing(table)}; name it with "
            "columns={'onset': ..., 'image': ...} (--column onset=NAME --column image=NAME)"
        )
    report.read.append(
        f"log: {len(table[onset_column]):,} rows; "
        + ", ".join(f"{k} from '{v}'" for k, v in found.items() if v)
    )
    if unused := sorted(set(table) - set(found.values())):
        report.notes.append(f"log: columns not used: {', '.join(unused)}")
    values = np.asarray(table[onset_column])
    if values.dtype.kind not in "uif":
        raise ValueError(f"log: expected numbers in the column '{onset_column}', got {values[:3].tolist()}")
    if not np.isfinite(values.astype(float)).any():
        raise ValueError(f"log: expected times in the column '{onset_column}', got none; name another column")
    onset = to_seconds(values.astype(float), onset_column, clock, report, time_unit)
    kept = np.isfinite(onset)
    report.count("rows of the log without an onset, dropped", int((~kept).sum()))
    order = np.flatnonzero(kept)[np.argsort(onset[kept], kind="stable")]
    if not (np.diff(onset[kept]) >= 0).all():
        report.notes.append("log: rows are not in the order of time; they were sorted by onset")
    if found["duration"]:
        length = np.asarray(table[found["duration"]], float)
        report.notes.append(
            f"log: durations from {np.nanmin(length):g} to {np.nanmax(length):g} in '{found['duration']}'"
        )
    tier = None if found["tier"] is None else _tiers(np.asarray(table[found["tier"]])[order], report)
    return Presentations(onset[order], np.asarray(table[image_column])[order], tier)


def to_seconds(values: Float, name: str, clock: Clock, report: Report, unit: str | None = None) -> Float:
    """Times as seconds; their unit from the caller, the column's name, or their range, which is reported."""
    if unit is not None:
        check_choice("time_unit", unit, tuple(UNITS))
    unit = unit or unit_of(name)[1]
    last, length = float(np.nanmax(values)), clock.end - clock.start
    whole = bool(np.array_equal(values, np.rint(values), equal_nan=True))
    n_frames = len(clock.frame_times)
    if unit is None:
        counts = whole and clock.end * 1.5 < last <= n_frames * clock.per_volume
        unit = "frames" if counts else "ms" if clock.end * 20 < last < clock.end * 2000 else "s"
        report.assumed.append(
            f"'{name}' is in {unit} (its largest value is {last:g}, the recording {length:.1f} s long)"
        )
    if unit == "s":
        return values
    if unit == "ms":
        return values / 1000
    per = 1
    if last >= n_frames and clock.per_volume > 1:
        per = clock.per_volume
        report.assumed.append(f"'{name}' counts the frames of all {per} planes, not volumes")
    counted = np.arange(n_frames + 1, dtype=float)
    times = np.append(clock.frame_times, clock.end)
    beyond = np.maximum(values / per - n_frames, 0.0) * length / n_frames
    return np.asarray(np.interp(values / per, counted, times) + beyond)


def _tiers(column: NDArray[Any], report: Report) -> NDArray[np.str_] | None:
    meaning = {word: tier for tier, forms in TIER_WORDS.items() for word in forms}
    texts = [str(value).strip().lower() for value in column]
    unknown = sorted(set(texts) - set(meaning))
    if len(unknown) == len(set(texts)):
        report.notes.append(f"log: {listing(unknown)} are no tiers; images are divided anew")
        return None
    if unknown:
        report.notes.append(
            f"log: tiers {listing(unknown)} are not train, validation or test: rows without a tier"
        )
    return np.array([meaning.get(text, "") for text in texts])

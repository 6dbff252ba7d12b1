"""Running, pupil and other signals to one value per trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.data.validation import Array
from mousev1.errors import listing
from mousev1.ingest.presentations import Clock, to_seconds
from mousev1.ingest.recording import Float, Table
from mousev1.ingest.report import Report
from mousev1.ingest.tables import find_column, words

_RUNNING = {"running", "run", "speed", "velocity", "treadmill", "wheel", "locomotion"}


def trial_covariates(
    tables: Sequence[Table],
    windows: tuple[Float, Float],
    clock: Clock,
    report: Report,
    *,
    time_column: str | None = None,
    time_unit: str | None = None,
) -> dict[str, Array]:
    """Mean of every signal in each window (start and stop, (T,)), between its samples where there is none in it.

    Signals without a column of times must have one sample per frame. A trial without a value has NaN.

    Raises:
        ValueError: no times, and another number of samples than frames.
    """
    covariates: dict[str, Array] = {}
    for table in tables:
        time, signals = _signals(table, clock, report, time_column, time_unit)
        for column in signals:
            name, convert = recognised(column)
            name = name if name not in covariates else column
            covariates[name] = convert(_window_means(time, np.asarray(table[column], float), *windows))
            missing = int(np.isnan(covariates[name]).sum())
            report.read.append(
                f"behaviour: '{column}' as {name}" + (f", missing in {missing} trials" if missing else "")
            )
    return covariates


def _signals(
    table: Table, clock: Clock, report: Report, given: str | None, unit: str | None
) -> tuple[Float, list[str]]:
    column = find_column(table, "onset", given)
    numeric = [name for name in table if np.asarray(table[name]).dtype.kind in "biuf"]
    if column is not None:
        time = to_seconds(np.asarray(table[column], float), column, clock, report, unit)
        return time, [name for name in numeric if name != column]
    length = len(np.asarray(table[numeric[0]])) if numeric else 0
    if length != len(clock.frame_times):
        raise ValueError(
            f"behavior: no column of times recognised among {listing(table)}, and {length} rows are not one for each "
            f"of the {len(clock.frame_times)} frames; name it with behavior_time (--behavior-time NAME)"
        )
    report.assumed.append("behaviour has one row per frame")
    return clock.frame_times, numeric


def recognised(column: str) -> tuple[str, Callable[[Float], Float]]:
    """The covariate that a column's name stands for, and how its values become that."""
    name = set(words(column))

    def same(values: Float) -> Float:
        return values

    if name & {"pupil", "eye"}:
        if name & {"radius", "dilation", "size"}:
            return "pupil_radius", same
        if "diameter" in name:
            return "pupil_radius", lambda values: values / 2
        if "area" in name:
            return "pupil_radius", lambda values: np.sqrt(np.maximum(values, 0) / np.pi)
        for axis, forms in (("x", {"x", "horizontal", "azimuth"}), ("y", {"y", "vertical", "elevation"})):
            if name & forms:
                return f"pupil_{axis}", same
    if name & _RUNNING:
        return "running", same
    return "_".join(words(column)), same


def _window_means(time: Float, values: Float, start: Float, stop: Float) -> Float:
    sound = np.isfinite(time) & np.isfinite(values)
    if not sound.any():
        return np.full(len(start), np.nan)
    order = np.argsort(time[sound], kind="stable")
    time, values = time[sound][order], values[sound][order]
    total = np.concatenate([[0.0], np.cumsum(values)])
    first, last = np.searchsorted(time, start), np.searchsorted(time, stop)
    count = last - first
    means: NDArray[Any] = (total[last] - total[first]) / np.maximum(count, 1)
    middle = (start + stop) / 2
    # Between two samples a value is known only if they are neighbours in the record, not on two sides of a loss.
    gap = 3 * float(np.median(np.diff(time))) if len(time) > 1 else 0.0
    right = np.clip(np.searchsorted(time, middle), 1, max(1, len(time) - 1))
    near = (
        (time[np.minimum(right, len(time) - 1)] - time[right - 1] <= gap)
        & (middle >= time[0])
        & (middle <= time[-1])
    )
    between = np.where(near, np.interp(middle, time, values), np.nan)
    return np.where(count > 0, means, between)

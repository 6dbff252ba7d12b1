"""Traces to one response per trial: the integral over a window after onset, with partial frames weighted.

A frame stands for the time from its start to that of the next frame of its plane. Where frames are missing
(a gap in their times, marked as bad, NaN), the response is the mean over what is there times the length of the window,
and a trial with less than ``min_coverage`` of its window is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mousev1.ingest.recording import Float, Plane
from mousev1.ingest.report import Report

UNITS_PER_BLOCK = 128
GAP = 1.5
LAGS = np.round(np.arange(-0.2, 0.51, 0.05), 3)
LENGTHS = (0.3, 0.4, 0.5, 0.7, 1.0)
FIRST_START = 0.05
MIN_REPEATS = 4
NEURONS_TO_CHOOSE_BY = 500
BASELINE_SECONDS, BASELINE_QUANTILE = 60.0, 0.1


@dataclass(frozen=True, kw_only=True)
class ResponseWindow:
    """The time after onset that a response is integrated over.

    Attributes:
        start, stop: seconds after onset.
        lag: seconds added to every onset of the log: recording's clock minus the log's.
        min_coverage: least share of a window that frames must cover.
    """

    start: float = 0.05
    stop: float = 0.55
    lag: float = 0.0
    min_coverage: float = 0.75

    def __post_init__(self) -> None:
        if not self.start < self.stop:
            raise ValueError(f"window: expected start before stop, got {self.start} and {self.stop}")
        if not 0 < self.min_coverage <= 1:
            raise ValueError(f"window: min_coverage: expected above 0 to 1, got {self.min_coverage}")


@dataclass(frozen=True, eq=False)
class TimedPlane:
    """Traces (U, F) of a plane with the start and the length in seconds of every frame (F,), and which are good."""

    traces: Float
    start: Float
    length: Float
    good: NDArray[np.bool_]

    @property
    def end(self) -> float:
        """When the last frame ends."""
        return float(self.start[-1] + self.length[-1])


def timed(plane: Plane, start: Float, report: Report) -> TimedPlane:
    """A plane whose frames start at ``start`` (F,); gaps, bad and NaN frames are found and counted."""
    interval = np.diff(start)
    if not len(interval) or not (interval > 0).all():
        raise ValueError(
            "frame times: expected at least two, each later than the one before; correct the times"
        )
    usual = float(np.median(interval))
    lost = int(np.rint(interval[interval > GAP * usual] / usual - 1).sum())
    length = np.append(np.where(interval > GAP * usual, usual, interval), usual)
    bad = ~np.isfinite(plane.traces).all(axis=0)
    marked = np.zeros(len(start), bool) if plane.good_frames is None else ~plane.good_frames
    report.count("frames missing between two others, over all planes", lost)
    report.count("frames marked as bad, over all planes", int(marked.sum()))
    report.count("frames that are NaN, over all planes", int(bad.sum()))
    return TimedPlane(plane.traces, start, length, ~(bad | marked))


def coverage(plane: TimedPlane, start: Float, stop: Float) -> Float:
    """(T,) share of each window that good frames cover."""
    time = np.concatenate([[0.0], np.cumsum(plane.length * plane.good)])
    return (_until(plane, time, stop) - _until(plane, time, start)) / (stop - start)


def integrate(plane: TimedPlane, start: Float, stop: Float) -> NDArray[np.float32]:
    """(T, U) sum of a plane's traces over frames in each window, in parts where a frame is in part inside.

    Windows that frames cover in part are scaled up to their full length; NaN where nothing is covered.
    """
    covered = coverage(plane, start, stop)
    responses = np.empty((len(start), len(plane.traces)), np.float32)
    for first in range(0, len(plane.traces), UNITS_PER_BLOCK):
        block = plane.traces[first : first + UNITS_PER_BLOCK].astype(np.float64)
        total = np.zeros((len(block), block.shape[1] + 1))
        np.cumsum(np.where(plane.good, block, 0.0), axis=1, out=total[:, 1:])
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (_until(plane, total, stop) - _until(plane, total, start)) / covered
        responses[:, first : first + len(block)] = found.T
    return responses


def _until(plane: TimedPlane, total: Float, time: Float) -> Float:
    """A running total (..., F + 1) over frames at any time: linear within a frame, constant in gaps."""
    frame = np.clip(np.searchsorted(plane.start, time, side="right") - 1, 0, len(plane.start) - 1)
    part = np.clip((time - plane.start[frame]) / plane.length[frame], 0.0, 1.0)
    return np.asarray(total[..., frame] * (1 - part) + total[..., frame + 1] * part)


def without_decay(traces: Float, rate: float, decay: float) -> Float:
    """Each frame (U, F) less what is left of the frame before, with ``decay`` seconds as the time constant.

    A trial then keeps little of what the trial before it left: a deconvolution that is linear and has no free choice.
    """
    left = math.exp(-1.0 / (rate * decay))
    return np.concatenate([np.zeros_like(traces[:, :1]), traces[:, 1:] - left * traces[:, :-1]], axis=1)


def above_baseline(traces: Float, rate: float) -> Float:
    """Fluorescence (U, F) as the change relative to its slow baseline, the lower tenth of every minute."""
    frames = max(2, round(BASELINE_SECONDS * rate))
    edges = np.arange(0, traces.shape[1], frames)
    # A last piece of a few frames has no quantile worth the name.
    edges = edges[:-1] if len(edges) > 1 and traces.shape[1] - edges[-1] < frames // 2 else edges
    pieces = np.split(traces, edges[1:], axis=1)
    centers = edges + np.array([piece.shape[1] for piece in pieces]) / 2
    levels = np.stack([np.nanquantile(piece, BASELINE_QUANTILE, axis=1) for piece in pieces], axis=1)
    frame = np.arange(traces.shape[1])
    baseline = np.stack([np.interp(frame, centers, level) for level in levels])
    floor = np.maximum(np.abs(np.median(levels, axis=1)), 1e-6)[:, None]
    return np.asarray((traces - baseline) / floor, np.float32)


def trial_responses(
    planes: Sequence[TimedPlane], onset: Float, window: ResponseWindow, report: Report
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Which trials (T,) the recording holds, and their responses (T', U); all others are counted by what they lack."""
    start, stop = onset + window.lag + window.start, onset + window.lag + window.stop
    outside = np.zeros(len(onset), bool)
    cut = np.zeros(len(onset), bool)
    least = np.ones(len(onset))
    for plane in planes:
        outside |= (stop <= plane.start[0]) | (start >= plane.end)
        cut |= (start < plane.start[0]) | (stop > plane.end)
        least = np.minimum(least, coverage(plane, start, stop))
    if outside.all():
        raise ValueError(
            f"log: no trial lies within the recording: onsets from {onset.min():.3f} to {onset.max():.3f} s, frames "
            f"from {planes[0].start[0]:.3f} to {planes[0].end:.3f} s; give the unit of the onsets (--time-unit), the "
            "frame rate (--frame-rate) or the difference between the clocks (--lag)"
        )
    cut &= ~outside
    sparse = (least < window.min_coverage) & ~cut & ~outside
    kept = ~(outside | cut | sparse)
    touched = kept & (least < 1 - 1e-6)
    overlapping = int((np.diff(onset) < window.stop - window.start - 1e-9).sum())
    report.count("presentations outside of the recording, dropped", int(outside.sum()))
    report.count("trials cut at the start or end of the recording, dropped", int(cut.sum()))
    report.count(
        f"trials with frames in less than {window.min_coverage:.0%} of their window, dropped",
        int(sparse.sum()),
    )
    report.count("trials kept with some frames missing, scaled to the full window", int(touched.sum()))
    report.count("trials whose window overlaps the next trial's", overlapping)
    if not kept.any():
        raise ValueError("log: no trial is left, see the counts; lower min_coverage (--min-coverage)")
    parts = [integrate(plane, start[kept], stop[kept]) for plane in planes]
    return kept, np.concatenate(parts, axis=1)


def not_negative(responses: NDArray[np.float32], signal: str, report: Report) -> NDArray[np.float32]:
    """Responses with negative values set to 0 and counted."""
    if (responses < 0).any():
        why = "noise of the fluorescence" if signal == "fluorescence" else "noise or rounding of the signal"
        report.notes.append(
            f"{(responses < 0).sum():,} responses ({(responses < 0).mean():.2%}) below 0, down to "
            f"{responses.min():.3g}, became 0 ({why})"
        )
    return np.maximum(responses, 0)


def choose_window(
    planes: Sequence[TimedPlane], onset: Float, image: NDArray[np.int64], report: Report, seed: int
) -> ResponseWindow:
    """The window and lag with the highest repeat reliability on half of the repeats, reported on the other half.

    Reliability is the correlation of a response with the mean of the image's other repeats, mean over neurons.

    Raises:
        ValueError: fewer than two images with ``MIN_REPEATS`` repeats.
    """
    ids, counts = np.unique(image, return_counts=True)
    rng = np.random.default_rng(seed)
    halves: tuple[list[int], list[int]] = ([], [])
    for repeated in ids[counts >= MIN_REPEATS]:
        rows = rng.permutation(np.flatnonzero(image == repeated))
        halves[0].extend(rows[: len(rows) // 2])
        halves[1].extend(rows[len(rows) // 2 :])
    if np.count_nonzero(counts >= MIN_REPEATS) < 2:
        raise ValueError(
            f"window: 'auto' needs two images shown {MIN_REPEATS} times or more, got "
            f"{np.count_nonzero(counts >= MIN_REPEATS)}; leave the window at its default or give it"
        )

    def reliability(window: ResponseWindow, half: int) -> float:
        rows = np.sort(halves[half])
        start, stop = (onset[rows] + window.lag + edge for edge in (window.start, window.stop))
        responses = np.concatenate([integrate(plane, start, stop) for plane in planes], axis=1)
        sound = np.isfinite(responses).all(axis=1)
        return repeat_reliability(responses[sound], image[rows][sound])

    # Means over some hundred neurons rank windows as well as those over thousands.
    step = -(-sum(len(plane.traces) for plane in planes) // NEURONS_TO_CHOOSE_BY)
    planes = [replace(plane, traces=plane.traces[::step]) for plane in planes]
    candidates = [
        ResponseWindow(start=FIRST_START, stop=round(FIRST_START + length, 3), lag=float(lag))
        for lag in LAGS
        for length in LENGTHS
    ]
    best = max(candidates, key=lambda window: reliability(window, 0))
    usual = ResponseWindow()
    report.notes.append(
        f"window chosen on half of the repeats: {best.start:g} to {best.stop:g} s with a lag of {best.lag:g} s; "
        f"reliability on the other half {reliability(best, 1):.4f}, of the default {reliability(usual, 1):.4f}"
    )
    return best


def repeat_reliability(responses: NDArray[np.float32], image: NDArray[np.int64]) -> float:
    """Correlation of each response (T, U) with the mean of the other repeats of its image, mean over neurons."""
    _, index, counts = np.unique(image, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), responses.shape[1]))
    np.add.at(sums, index, responses)
    several = counts[index] > 1
    own = responses[several].astype(float)
    others = (sums[index[several]] - own) / (counts[index[several]] - 1)[:, None]
    own, others = own - own.mean(axis=0), others - others.mean(axis=0)
    scale = np.sqrt((own**2).sum(axis=0) * (others**2).sum(axis=0))
    alive = scale > 0
    return float(np.mean((own * others).sum(axis=0)[alive] / scale[alive]))

"""The result of a transfer: one row per representation, number of images and partition."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousev1.errors import check_choice, listing
from mousev1.metrics.intervals import Interval, mean_interval
from mousev1.metrics.score_names import MODEL_SCORES, SCORES
from mousev1.storage.table import Table

RANDOM, LINEAR, MEAN = "random core", "linear-nonlinear", "mean response"
BASELINES = (RANDOM, LINEAR, MEAN)
"""What every representation is compared with."""


@dataclass(frozen=True)
class CurveRow:
    """Scores of one representation, fitted to one draw of training images.

    All scores are means over neurons where they are defined, on test images; NaN where there is none.

    Attributes:
        representation: name of the core, or of a baseline.
        images: number of training images.
        partition: number of the draw.
        units: number of neurons.
        seconds: time of the fit, features included.
        single_trial_correlation: with single trials; undefined for constant predictions.
        correlation_to_average: with the average over repeats.
        fraction_oracle: slope of single-trial correlation on oracle correlation over neurons.
        feve: fraction of explainable variance explained, over neurons with a FEV above 0.15.
        deviance_explained: see ``mousev1.metrics.population_scores.deviance_explained``; 0 for the mean response.
        true_rate_correlation: with the true rates of a simulation, over neurons that respond.
        undefined_units: neurons without a single-trial correlation.
    """

    representation: str
    images: int
    partition: int
    units: int
    seconds: float
    single_trial_correlation: float
    correlation_to_average: float
    fraction_oracle: float
    feve: float
    deviance_explained: float
    true_rate_correlation: float
    undefined_units: int


@dataclass(frozen=True)
class LearningCurve(Table):
    """Scores over the number of training images, with 95% intervals over partitions.

    Attributes:
        rows: all of them.
        scan: its name.
        cortex: whether fits used cortical positions.
        units_drawn: whether partitions draw neurons as well as images.
        oracle: mean oracle correlation of the scan's neurons; NaN without repeats.
        seed: of the draws; curves of one seed have the same draws.
        simulated: whether the responses are known to be simulated.
    """

    rows: tuple[CurveRow, ...]
    scan: str
    cortex: bool
    units_drawn: bool
    oracle: float
    seed: int = 0
    simulated: bool = False

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """The fields of ``CurveRow`` by name, one row per fit, and, the same in every row, the curve's own other
        fields, with 1 for true: so ``read_curve`` reads all of it back.
        """
        of_rows = {
            field.name: np.array([getattr(row, field.name) for row in self.rows])
            for field in fields(CurveRow)
        }
        return of_rows | {
            name: np.array([int(value) if isinstance(value, bool) else value] * len(self.rows))
            for name, value in ((name, getattr(self, name)) for name in _OF_THE_CURVE)
        }

    @property
    def representations(self) -> tuple[str, ...]:
        """Names, in the order of the rows."""
        return tuple(dict.fromkeys(row.representation for row in self.rows))

    @property
    def images(self) -> tuple[int, ...]:
        """Numbers of training images, rising."""
        return tuple(sorted({row.images for row in self.rows}))

    def interval(self, representation: str, images: int, score: str = "fraction_oracle") -> Interval:
        """Mean and 95% interval (Student's t) over the partitions where the score is defined.

        Args:
            representation: one of ``representations``.
            images: one of ``images``.
            score: one of ``mousev1.metrics.score_names.MODEL_SCORES``.
        """
        check_choice("score", score, MODEL_SCORES)
        if representation not in self.representations or images not in self.images:
            raise ValueError(
                f"representation, images: expected one of {listing(self.representations)} at one of "
                f"{list(self.images)} images, got {representation!r} at {images}"
            )
        return mean_interval(
            getattr(row, score)
            for row in self.rows
            if (row.representation, row.images) == (representation, images)
        )

    def difference(self, first: str, second: str, images: int, score: str = "fraction_oracle") -> Interval:
        """Mean and 95% interval (Student's t) of ``first`` minus ``second``, draw by draw.

        Both saw the same images and neurons in each draw, so that what a draw does to both cancels: the interval
        is narrower than those of the two means where their scores rise and fall together.

        Args:
            first: one of ``representations``.
            second: another one.
            images: one of ``images``.
            score: one of ``mousev1.metrics.score_names.MODEL_SCORES``. Draws where it is undefined for either are
                left out.
        """
        for name in (first, second):
            self.interval(name, images, score)  # refuses unknown names
        of = {
            (row.representation, row.partition): getattr(row, score)
            for row in self.rows
            if row.images == images
        }
        return mean_interval(
            value - of[second, partition]
            for (name, partition), value in of.items()
            if name == first and (second, partition) in of
        )

    def select(self, *representations: str) -> LearningCurve:
        """The curve of some of its representations."""
        for name in representations:
            check_choice("representation", name, self.representations)
        return replace(self, rows=tuple(row for row in self.rows if row.representation in representations))

    @property
    def headline(self) -> tuple[str, ...]:
        """The scores that say most: against the oracle, of the whole response, and the truth if it is known."""
        first = "fraction_oracle" if self.defined("fraction_oracle") else "single_trial_correlation"
        wanted = (first, "deviance_explained", "true_rate_correlation")
        return tuple(score for score in wanted if self.defined(score))

    def defined(self, score: str) -> bool:
        """Whether any row has this score."""
        return any(self.interval(name, n, score).count for name in self.representations for n in self.images)

    def table(self, score: str = "fraction_oracle") -> str:
        """One line per representation, one column per number of images: mean ± half of the interval."""
        check_choice("score", score, MODEL_SCORES)
        width = max(len(name) for name in self.representations)
        lines = [
            self.title(),
            f"{SCORES[score]}; mean ± half of the 95% interval over {self._partitions()}",
            "images".ljust(width) + "".join(f"{count:>16,}" for count in self.images),
        ]
        for name in self.representations:
            found = [str(self.interval(name, count, score)) for count in self.images]
            lines.append(name.ljust(width) + "".join(f"{text:>16}" for text in found))
        if undefined := [row for row in self.rows if row.undefined_units]:
            worst = max(row.undefined_units for row in undefined)
            names = listing(dict.fromkeys(row.representation for row in undefined))
            lines.append(f"correlations are undefined for up to {worst:,} neurons of {names}")
        return "\n".join(lines)

    def title(self) -> str:
        """What was measured, in one line; says so if responses are simulated."""
        units = sorted({row.units for row in self.rows})
        what = f"{self.scan}, {', '.join(f'{count:,}' for count in units)} neurons"
        what += ", with cortical positions" if self.cortex else ", without cortical positions"
        return f"Simulated responses: {what}" if self.simulated else what

    def _partitions(self) -> str:
        count = len({row.partition for row in self.rows})
        drawn = "images and neurons" if self.units_drawn else "images"
        return f"{count} random draw{'s' * (count > 1)} of {drawn}"


_OF_THE_CURVE = tuple(field.name for field in fields(LearningCurve) if field.name != "rows")


def read_curve(path: str | os.PathLike[str]) -> LearningCurve:
    """A curve from the CSV that ``LearningCurve.to_csv`` and ``mousev1 compare`` (curve.csv) wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: columns that are missing, values of another kind, or rows of several curves.
    """
    with open(path, encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    expected = [*(field.name for field in fields(CurveRow)), *_OF_THE_CURVE]
    if missing := [name for name in expected if not table or name not in table[0]]:
        raise ValueError(
            f"{path}: expected the columns of a learning curve and at least one row, missing {listing(missing)}; "
            "LearningCurve.to_csv and mousev1 compare write such files"
        )
    try:
        rows = tuple(CurveRow(**_values(CurveRow, line)) for line in table)
        of_curve = [_values(LearningCurve, line) for line in table]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected numbers as LearningCurve.to_csv writes them: {error}") from error
    if len({str(values) for values in of_curve}) > 1:
        raise ValueError(
            f"{path}: expected the rows of one curve, got several; keep each in a file of its own, and join what "
            "read_curve reads with mousev1.compare.results.combine"
        )
    return LearningCurve(rows=rows, **of_curve[0])


def _values(kind: type, line: dict[str, str]) -> dict[str, Any]:
    """The fields of a dataclass of plain values, but ``rows``, from the texts of a line."""
    readers: dict[str, Callable[[str], Any]] = {
        "str": str,
        "int": int,
        "float": float,
        "bool": lambda text: bool(int(text)),
    }
    return {
        field.name: readers[str(field.type)](line[field.name])
        for field in fields(kind)
        if field.name != "rows"
    }


def combine(curves: Sequence[LearningCurve]) -> LearningCurve:
    """Curves of several representations on one scan as one; a baseline that several have alike is kept once.

    Raises:
        ValueError: no curve, curves of different scans or settings, or a representation in two of them.
    """
    if not curves:
        raise ValueError("curves: expected at least one, got none")
    first = curves[0]
    kept = [first]
    for curve in curves[1:]:
        # Scores aside, all that a curve says about itself must be the same.
        same = replace(curve, rows=(), oracle=0.0) == replace(first, rows=(), oracle=0.0)
        if not same or _draws(curve) != _draws(first):
            raise ValueError(
                "curves: expected the same scan, images, units, partitions, seed and use of cortical positions "
                f"in all, got {first.title()!r} and {curve.title()!r}"
            )
        known = {_scores_of(before, name) for before in kept for name in before.representations}
        own = [name for name in curve.representations if name not in BASELINES]
        kept.append(curve.select(*own, *(b for b in BASELINES if _new(curve, b, known))))
    names = [name for curve in kept for name in curve.representations]
    if len(set(names)) < len(names):
        raise ValueError(
            f"curves: expected every representation once, got {listing(names)}; take those that count from "
            "each curve with select(...)"
        )
    return replace(first, rows=tuple(row for curve in kept for row in curve.rows))


def _new(curve: LearningCurve, name: str, known: set[str]) -> bool:
    return name in curve.representations and _scores_of(curve, name) not in known


def _scores_of(curve: LearningCurve, name: str) -> str:
    """All rows of a representation but their times, as text, in which an undefined score equals another."""
    return str(sorted(str(replace(row, seconds=0.0)) for row in curve.select(name).rows))


def _draws(curve: LearningCurve) -> set[tuple[int, int, int]]:
    return {(row.images, row.partition, row.units) for row in curve.rows}

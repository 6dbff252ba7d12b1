"""The list of exported stimuli: what each is, for whom it was made, and what the model predicted before it was shown.

A CSV with one row per image: ``image_id``, ``file``, ``class``, ``unit_id`` (empty for images made for no neuron in
particular), ``contrast``, ``extrapolation``, ``gamma`` and one column ``unit_<id>`` per neuron with its predicted
response. Predictions are written down beforehand, so that a recording can contradict them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mousev1.data.scan import Scan
from mousev1.errors import listing
from mousev1.insilico.frame import Float
from mousev1.storage.table import write_csv

MANIFEST_FILE = "manifest.csv"
FIXED = ("image_id", "file", "class", "unit_id", "contrast", "extrapolation", "gamma")
NO_UNIT = -1
FIRST_ID = 1_000_000
"""Image ids count from here, where they meet no numbers of images that were shown before."""


@dataclass(frozen=True, eq=False)
class Manifest:
    """N exported stimuli and the predicted responses of U neurons to them.

    Attributes:
        image_ids: (N,) whole numbers, each once.
        files: N names of PNG files, each once.
        classes: N names of stimulus classes, such as ``"mei"`` or ``"natural"``.
        made_for: (N,) id of the neuron that the image was made for; -1 for none.
        contrast: (N,) RMS contrast of the image as shown.
        extrapolation: (N,) distance from the training images for the neuron that it was made for (or of the
            whole image), as a multiple of the limit, see ``mousev1.insilico.extrapolation``; NaN if unknown.
        gamma: exponent of the display that the files were made for.
        unit_ids: (U,) the neurons with predictions.
        predictions: (N, U) predicted responses, in the units of the recorded responses.
    """

    image_ids: NDArray[np.int64]
    files: tuple[str, ...]
    classes: tuple[str, ...]
    made_for: NDArray[np.int64]
    contrast: Float
    extrapolation: Float
    gamma: float
    unit_ids: NDArray[np.int64]
    predictions: Float

    def __post_init__(self) -> None:
        images, units = len(self.image_ids), len(self.unit_ids)
        for name in ("files", "classes", "made_for", "contrast", "extrapolation"):
            if len(getattr(self, name)) != images:
                raise ValueError(
                    f"manifest: {name}: expected {images}, one per image, got {len(getattr(self, name))}"
                )
        if self.predictions.shape != (images, units):
            raise ValueError(
                f"manifest: predictions: expected {(images, units)}, got {self.predictions.shape}"
            )
        for name, values in (("image_id", self.image_ids.tolist()), ("file", self.files)):
            if len(set(values)) != images:
                raise ValueError(f"manifest: {name}: expected every one once, got repeated ones")

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def class_names(self) -> list[str]:
        """The classes in the order of their first image."""
        return list(dict.fromkeys(self.classes))

    def rows_of(self, name: str) -> NDArray[np.intp]:
        """Rows of a class."""
        return np.flatnonzero(np.array(self.classes) == name)

    def write(self, path: str | Path) -> None:
        """Write the CSV; all of it or nothing."""
        made_for = ["" if unit == NO_UNIT else str(unit) for unit in self.made_for]
        about = (
            _texts(values, ".6g") for values in (self.contrast, self.extrapolation, [self.gamma] * len(self))
        )
        fixed = (self.image_ids, np.array(self.files), np.array(self.classes), np.array(made_for), *about)
        columns = dict(zip(FIXED, fixed, strict=True))
        for unit, values in zip(self.unit_ids, self.predictions.T, strict=True):
            columns[f"unit_{unit}"] = _texts(values, ".7g")
        write_csv(path, columns)


def read_manifest(path: str | Path) -> Manifest:
    """A manifest from its CSV, or from the folder that it is in.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: not a manifest, or numbers that are none; the message names line and column.
    """
    path = Path(path)
    path = path / MANIFEST_FILE if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"manifest: no file at {path}; `mousev1 export` writes one beside the images")
    with open(path, encoding="utf-8", newline="") as file:
        try:
            header, *rows = list(csv.reader(file))
        except (ValueError, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: not a manifest ({error})") from error
    if outside := [
        row[1] for row in rows if len(row) > 1 and (row[1] in ("", ".", "..") or set(row[1]) & set("/\\\0"))
    ]:
        raise ValueError(f"{path}: file: expected names of files beside it, got {listing(outside, 5)}")
    units = header[len(FIXED) :]
    if tuple(header[: len(FIXED)]) != FIXED or not all(name.startswith("unit_") for name in units):
        raise ValueError(
            f"{path}: not a manifest: expected columns {listing(FIXED)} and then unit_<id>, got {listing(header, 8)}"
        )
    if not rows or not units:
        raise ValueError(
            f"{path}: expected at least one image and one neuron, got {len(rows)} and {len(units)}"
        )
    if short := [i for i, row in enumerate(rows, 2) if len(row) != len(header)]:
        raise ValueError(f"{path}: line {short[0]} has not {len(header)} columns as the first line")

    def numbers(name: str, empty: float = math.nan) -> Float:
        column = header.index(name)
        out = np.empty(len(rows))
        for i, row in enumerate(rows):
            try:
                out[i] = float(row[column]) if row[column] else empty
            except ValueError as error:
                raise ValueError(
                    f"{path}: line {i + 2}, {name}: expected a number, got {row[column]!r}"
                ) from error
        return out

    gamma = np.unique(numbers("gamma"))
    if len(gamma) != 1:
        raise ValueError(f"{path}: gamma: expected one display for all images, got {listing(gamma)}")
    try:
        unit_ids = np.array([int(name.removeprefix("unit_")) for name in units])
    except ValueError as error:
        raise ValueError(f"{path}: expected columns unit_<whole number>, got {listing(units, 5)}") from error
    return Manifest(
        image_ids=numbers("image_id").astype(np.int64),
        files=tuple(row[1] for row in rows),
        classes=tuple(row[2] for row in rows),
        made_for=numbers("unit_id", NO_UNIT).astype(np.int64),
        contrast=numbers("contrast"),
        extrapolation=numbers("extrapolation"),
        gamma=float(gamma[0]),
        unit_ids=unit_ids,
        predictions=np.stack([numbers(name) for name in units], axis=1),
    )


def _texts(values: Iterable[float], form: str) -> NDArray[np.str_]:
    return np.array([format(value, form) for value in values])


def match_trials(manifest: Manifest, scan: Scan) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Trials (M,) of a scan that showed an image of a manifest, and the manifest's row of each, (M,).

    The scan's image ids are the manifest's numbers, or texts that name its files, with or without folder and
    ending. Trials of other images are passed over; there must be some of these.
    """
    if scan.image_ids.dtype.kind == "U":
        known = [Path(name).stem for name in manifest.files]
        shown = [Path(str(name)).stem for name in scan.image_ids]
    else:
        known, shown = manifest.image_ids.tolist(), scan.image_ids.tolist()
    row_of = {name: row for row, name in enumerate(known)}
    rows = np.array([row_of.get(name, -1) for name in shown], dtype=np.intp)[scan.trial_image]
    trials = np.flatnonzero(rows >= 0)
    if not len(trials):
        raise ValueError(
            f"scan: none of the {scan.n_images} images of '{scan.name}' (ids {listing(scan.image_ids[:3])}, ...) is "
            f"in the manifest ({listing(manifest.image_ids[:2])}, ... or {listing(manifest.files[:2])}, ...); record "
            "the scan with the manifest's image_id or file as its image ids"
        )
    return trials, rows[trials]

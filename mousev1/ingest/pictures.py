"""Pictures by name, and which of them each presentation showed: by name or number, never by sort order."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mousev1.data.npy import read_npy
from mousev1.data.pictures import ENDINGS, natural_key, opened
from mousev1.errors import listing

BLANK = ("", "blank", "gray", "grey", "none", "nan", "iti", "background", "-1")
LUMINANCE = "colour becomes gray as .299 red + .587 green + .114 blue (ITU-R BT.601)"


def find_pictures(source: str | Path) -> dict[str, Path | NDArray[Any]]:
    """Name to file of the pictures in a folder, or to rows of an (N, H, W) ``.npy`` array, in natural order.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a folder without pictures, an array of other axes.
    """
    source = Path(source)
    if source.suffix == ".npy" and source.is_file():
        array = read_npy(source, mapped=True)
        if array.ndim not in (3, 4):
            raise ValueError(f"pictures: expected {source} as (N, H, W) or (N, H, W, 3), got {array.shape}")
        return {str(i): array[i] for i in range(len(array))}
    if not source.is_dir():
        raise FileNotFoundError(
            f"pictures: expected a folder of pictures or an .npy array, nothing at {source}"
        )
    files = [p for p in source.rglob("*") if p.suffix.lower() in ENDINGS and p.name[0] != "."]
    if not files:
        raise ValueError(f"pictures: expected pictures in {source}, found none (.png, .jpg, ...)")
    names = {str(path.relative_to(source).as_posix()): path for path in files}
    return {name: names[name] for name in sorted(names, key=natural_key)}


def read_gray(picture: Path | NDArray[Any], name: str) -> NDArray[Any]:
    """(H, W) gray values 0 to 255 of a file or array; see ``LUMINANCE``.

    Raises:
        ValueError: unreadable, transparent, or gray values outside of 0 to 255.
    """
    if isinstance(picture, Path):
        try:
            with opened(picture) as file:
                turned = ImageOps.exif_transpose(file)
                if "A" in turned.getbands() and turned.getchannel("A").getextrema() != (255, 255):
                    raise ValueError("it is partly transparent; flatten it onto a background")
                if turned.mode[0] in "IF":
                    return _checked(np.array(turned, np.float64), name)
                return np.array(turned.convert("RGB" if turned.mode != "L" else "L").convert("L"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"pictures: {name}: {error}; save it again as an 8-bit picture") from error
    array = np.asarray(picture)
    if array.ndim == 3 and array.shape[-1] == 3:
        colour = _checked(array, name).round().astype(np.uint8)
        return np.array(Image.fromarray(colour).convert("L"))
    if array.ndim != 2:
        raise ValueError(f"pictures: {name}: expected (H, W) or (H, W, 3), got {array.shape}")
    return _checked(array, name)


def _checked(array: NDArray[Any], name: str) -> NDArray[Any]:
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 255) or (array.dtype.kind == "f" and 0 < high <= 1):
        raise ValueError(
            f"pictures: {name}: expected gray values 0 to 255, got {low:g} to {high:g}; bring all to this range"
        )
    return array


def match(
    shown: NDArray[Any], names: Sequence[str], *, index_base: int | None = None
) -> tuple[NDArray[np.int64], Mapping[str, int], str]:
    """Which picture each presentation showed.

    Args:
        shown: (T,) texts or whole numbers of the log.
        names: of the pictures, in natural order.
        index_base: the number of the first picture, where numbers count pictures in natural order.

    Returns:
        (T,) index into ``names``, -1 for a blank screen; name to count of what was taken for a blank; and how
        pictures were found, in words.

    Raises:
        ValueError: a presentation of no picture, or of several.
    """
    if shown.dtype.kind == "f" and np.array_equal(shown, np.rint(shown), equal_nan=True):
        shown = np.array(["" if np.isnan(value) else str(int(value)) for value in shown])
    if index_base is not None:
        return _by_index(shown, names, index_base)
    for how, key in _KEYS.items():
        table: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            table.setdefault(key(name), []).append(i)
        wanted = {text: table.get(key(text), []) for text in np.unique(shown).tolist()}
        blank = [text for text, found in wanted.items() if not found and text.strip().lower() in BLANK]
        if all(len(found) == 1 for text, found in wanted.items() if text not in blank):
            index = {text: -1 if text in blank else found[0] for text, found in wanted.items()}
            counts = {text: int(np.count_nonzero(shown == text)) for text in blank}
            return np.array([index[text] for text in shown.tolist()], np.int64), counts, how
    whole = {_file(name) for name in names}
    lost = [text for text in np.unique(shown).tolist() if _file(text) not in whole]
    raise ValueError(
        f"pictures: {len(lost)} of {len(np.unique(shown))} images of the log are not among the {len(names)} pictures, "
        f"or fit several: {listing(lost, 5)}, while the pictures are {listing(names, 5)}; name the right folder, or "
        "the column of the log with the names of files (--column image=NAME). Numbers that count pictures in "
        "natural order need --index-base 0 or 1"
    )


def _by_index(
    shown: NDArray[Any], names: Sequence[str], base: int
) -> tuple[NDArray[np.int64], Mapping[str, int], str]:
    blank = {
        text: int(np.count_nonzero(shown == text))
        for text in np.unique(shown).tolist()
        if text.lower() in BLANK
    }
    try:
        index = np.array([-1 if text in blank else int(text) - base for text in shown.tolist()], np.int64)
    except ValueError as error:
        raise ValueError(f"index_base: expected whole numbers as images of the log ({error})") from error
    if (index < -1).any() or (index >= len(names)).any() or (index == -1).sum() != sum(blank.values()):
        raise ValueError(
            f"index_base: expected numbers from {base} to {len(names) - 1 + base} for {len(names)} pictures, got "
            f"{index.min() + base} to {index.max() + base}; check index_base and the pictures"
        )
    return index, blank, f"by their number in natural order, from {base}"


def _file(name: str) -> str:
    """The last part of a path of any system."""
    return PureWindowsPath(name.strip()).name


def _stem(name: str) -> str:
    file = _file(name)
    return (
        PureWindowsPath(file).stem
        if PureWindowsPath(file).suffix.lower() in Image.registered_extensions()
        else file
    )


def _unpadded(name: str) -> str:
    return re.sub(r"0*([0-9]+)", r"\1", _stem(name).lower())


def _number(name: str) -> str:
    if name.startswith("-"):
        return name
    numbers = re.findall(r"[0-9]+", _stem(name))
    return str(int(numbers[-1])) if numbers else _stem(name)


# From strict to tolerant; the first under which every presentation has exactly one picture is taken.
_KEYS = {
    "by path": lambda name: name.strip().replace("\\", "/"),
    "by file name": _file,
    "by name without ending": _stem,
    "by name without ending, case and zeros before numbers": _unpadded,
    "by the number in their names": _number,
}

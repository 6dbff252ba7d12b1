"""Files of pictures: which they are, in which order, and how they are opened."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from os.path import expanduser
from pathlib import Path

from PIL import Image

from mousev1.errors import listing, printable
from mousev1.storage.reading import check_regular

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
"""Formats that are read. Pillow knows more, some of which start other programs, as PostScript does."""

ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
MAX_PIXELS = 50_000_000
"""A picture in colour takes four bytes per pixel and is copied while it is converted."""

DAMAGE = (
    OSError,
    SyntaxError,
    EOFError,
    LookupError,
    ArithmeticError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for a picture that is damaged."""

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".wmv", ".webm")


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorts ``natural_2`` before ``natural_10``."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"([0-9]+)", name)
        if part
    ]


def picture_files(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The pictures that paths stand for: files themselves, and those in folders.

    Pictures of a folder come in natural order of their names, ``2.png`` before ``10.png``. Files in a folder that
    are no pictures by their ending, or hidden, are passed over.

    Raises:
        FileNotFoundError: a path that leads nowhere.
        ValueError: a folder without pictures.
    """
    files = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        found = Path(expanduser(path))
        if found.is_dir():
            inside = [p for p in found.iterdir() if p.suffix.lower() in ENDINGS and p.name[0] != "."]
            if not inside:
                raise ValueError(
                    f"images: expected pictures in the folder {found}, found none ({', '.join(ENDINGS)})"
                )
            files += sorted(inside, key=lambda p: (natural_key(p.name), p.name))
        elif found.is_file():
            files.append(found)
        else:
            raise FileNotFoundError(f"images: expected a picture or a folder of pictures, nothing at {found}")
    return files


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture of one of the ``FORMATS``, open as long as the block runs.

    Raises:
        ValueError: another format, a video, a file of several pictures, or an unsound one.
    """
    name = printable(path)
    if path.suffix.lower() in VIDEOS:
        raise ValueError(f"images: {name} is a video; videos are not read: save its frames as .png")
    check_regular(path)
    try:
        with Image.open(path, formats=FORMATS) as picture:
            pixels = picture.width * picture.height
            if pixels > MAX_PIXELS:
                raise ValueError(
                    f"images: {name} has {picture.width} x {picture.height} pixels, more than the {MAX_PIXELS:,} that "
                    "are read; crop or resize it"
                )
            # a second picture in a JPEG is a preview
            count = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
            if count == 1:
                picture.load()
                yield picture
    except DAMAGE as error:
        if path.suffix.lower() not in ENDINGS:
            raise ValueError(
                f"images: expected a picture as {listing(FORMATS)}, got {name}; save it as .png"
            ) from error
        raise ValueError(
            f"images: {name} is not a sound picture ({error}); fetch or save it again"
        ) from error
    if count > 1:
        raise ValueError(
            f"images: {name} holds {count} pictures; videos are not read: save each as a .png, or pass them as "
            "one array (N, H, W)"
        )

"""What is asked of every file before it is read: that it is one, and that what it unpacks to fits its size."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from mousev1.errors import printable

MEGA = 10**6
UNPACKED_ALWAYS = 256 * MEGA
"""What a file may unpack to, however small it is."""
UNPACKED_TIMES = 200
"""What a larger one may unpack to, as a multiple of its size: ten times what recordings reach, which are noise."""
MAX_JSON_BYTES = 10 * MEGA
MAX_DIGITS, MAX_DEPTH = 19, 50


def check_regular(path: str | Path) -> int:
    """Bytes of a regular file; opening a pipe or a device could wait for ever.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a folder, pipe, device or socket.
    """
    try:
        status = Path(path).stat()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{printable(path)}: expected a file, found nothing there") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(
            f"{printable(path)}: expected a regular file, got a folder, pipe or device; copy the contents to a file"
        )
    return status.st_size


def check_unpacked(where: str, unpacked: int, packed: int) -> None:
    """``ValueError`` if contents of ``unpacked`` bytes in a file of ``packed`` can only be meant to fill memory."""
    if unpacked > max(UNPACKED_ALWAYS, UNPACKED_TIMES * packed):
        raise ValueError(
            f"{where}: unpacks to {unpacked:,} bytes from a file of {packed:,}, more than recordings do; refused. If "
            "it is sound, save it again without compression"
        )


def parse_json(data: str | bytes, where: str) -> Any:
    """Plain values from JSON.

    Raises:
        ValueError: no JSON, nested too deep to read, or a whole number beyond 64 bits.
    """
    try:
        if len(data) > MAX_JSON_BYTES:
            raise ValueError(f"{len(data):,} bytes, more than the {MAX_JSON_BYTES:,} that are read")
        values = json.loads(data, parse_int=_whole_number)
        _check_depth(values)
        return values
    except RecursionError as error:
        raise ValueError(
            f"{where}: not sound JSON (nested more than {MAX_DEPTH} deep); correct it"
        ) from error
    except ValueError as error:
        raise ValueError(f"{where}: not sound JSON ({error}); correct it") from error


def read_json(path: Path) -> Any:
    """Plain values from a JSON file, with or without a byte order mark; see ``parse_json``."""
    size = check_regular(path)
    if size > MAX_JSON_BYTES:
        raise ValueError(
            f"{printable(path)}: {size:,} bytes, more than the {MAX_JSON_BYTES:,} of JSON that are read"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{printable(path)}: not sound JSON ({error}); save it as UTF-8") from error
    return parse_json(text, printable(path))


def _check_depth(values: Any) -> None:
    """``ValueError`` for values that a function calling itself could not walk through."""
    level = [values]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {MAX_DEPTH} deep")


def _whole_number(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)

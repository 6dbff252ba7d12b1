"""Files and folders that are written as a whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place when the block ends without error.

    Works for files and for folders. An error leaves the target as it was and removes the temporary.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    staging = holder / "new"
    try:
        yield staging
        _sync(staging)
        if target.is_dir() and not target.is_symlink():
            # A folder cannot be renamed onto a full one: the old one steps aside for an instant.
            os.rename(target, holder / "old")
        os.replace(staging, target)
    except BaseException:
        if (holder / "old").exists() and not target.exists():
            os.rename(holder / "old", target)
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _sync(path: Path) -> None:
    """Force a file, or every file of a folder, to the disk before it is renamed into place."""
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

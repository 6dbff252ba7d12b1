"""Torch files that end in their own checksum, so that a damaged one is refused and never half believed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from mousev1.storage.atomic import file_sha256, replacing

MARK = b"\nSHA-256 of the bytes before this line: "
ENDING = len(MARK) + 64
BLOCK = 1 << 20


def save_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """Write tensors and plain values, complete or not at all; ``torch.load`` reads the file too."""
    with replacing(path) as staging:
        torch.save(values, staging)
        digest = file_sha256(staging)
        with staging.open("ab") as file:
            file.write(MARK + digest.encode())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What ``save_checkpoint`` wrote.

    Raises:
        ValueError: the file is not what was written.
    """
    with path.open("rb") as file:
        remaining = max(path.stat().st_size - ENDING, 0)
        digest = hashlib.sha256()
        while remaining and (block := file.read(min(BLOCK, remaining))):
            digest.update(block)
            remaining -= len(block)
        ending = file.read()
    if not ending.startswith(MARK):
        raise ValueError(
            f"{path}: expected a checkpoint with its checksum at the end; this file is truncated, or another "
            f"program's. Put a copy back, or remove {path.parent} to start the run from the beginning"
        )
    if ending != MARK + digest.hexdigest().encode():
        raise ValueError(
            f"{path}: the content does not agree with its checksum: the file was altered. Put a copy back, or "
            f"remove {path.parent} to start the run from the beginning"
        )
    values: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return values

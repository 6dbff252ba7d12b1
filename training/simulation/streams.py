"""Random streams that have names, so that one part of a simulation cannot disturb another."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed (0 or more) and on these names alone, not on what else was drawn."""
    if seed < 0:
        raise ValueError(f"seed: expected 0 or a positive whole number, got {seed}")
    # The unit separator keeps ("ab", "c") and ("a", "bc") apart.
    digest = hashlib.sha256("\x1f".join(names).encode()).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 16, 4))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))

"""Memory that tensors free, kept for the next tensors."""

from __future__ import annotations

import ctypes

MEBI, GIBI = 2**20, 2**30
# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
_limits = {M_MMAP_THRESHOLD: 0, M_TRIM_THRESHOLD: 0}


def keep_freed_memory(*, largest: int = 64 * MEBI, kept: int = 256 * MEBI) -> bool:
    """Let the process keep the memory of freed tensors instead of giving it back at once.

    By default glibc returns every large block to the system and asks for it again, and clearing the new
    pages takes longer than many of the operations on them: the 11-S core computes features of 8 images
    in 9 instead of 19 ms with this. A later call never lowers what an earlier one set. For Linux with
    glibc; elsewhere nothing happens.

    Args:
        largest: blocks of more bytes go back to the system as before; at most 1 GiB.
        kept: bytes that may stay unused at the end of the heap.

    Returns:
        Whether it took effect.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    for name, limit in ((M_MMAP_THRESHOLD, largest), (M_TRIM_THRESHOLD, kept)):
        _limits[name] = max(_limits[name], limit)
    return all(mallopt(name, limit) for name, limit in _limits.items())

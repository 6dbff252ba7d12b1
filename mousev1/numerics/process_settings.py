"""Settings of the whole process that make mousev1 faster: the one file that makes any, and only when asked."""

from __future__ import annotations

import ctypes
import os

MEBI, GIBI = 2**20, 2**30
# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
SPINS_BEFORE_SLEEP = "10000"
_limits = {M_MMAP_THRESHOLD: 0, M_TRIM_THRESHOLD: 0}


def tune_process(*, largest: int = 64 * MEBI, kept: int = 256 * MEBI) -> bool:
    """Set the process up for mousev1: for scripts that own their process; the command line calls it for itself.

    Nothing else in mousev1 changes settings of the process. Results do not depend on it. Two settings are made:

    - Memory of freed tensors stays in the process. By default glibc returns large blocks to the system and asks
      for them again, and clearing the new pages takes time. Linux with glibc only. A later call never lowers what
      an earlier one set.
    - ``GOMP_SPINCOUNT``, how long OpenMP's threads spin before they sleep, unless it is in the environment already.
      torch reads it when it is imported, so call this before. Its default brings a fit to a crawl once another
      process wants a processor; no spinning at all makes it 1.6 times slower on an idle machine (41 against 25 s
      for 1,000 neurons and 4,472 images on two cores).

    Args:
        largest: blocks of more bytes go back to the system as before; at most 1 GiB.
        kept: bytes that may stay unused at the end of the heap.

    Returns:
        Whether freed memory is kept now.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS_BEFORE_SLEEP)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    for name, limit in ((M_MMAP_THRESHOLD, largest), (M_TRIM_THRESHOLD, kept)):
        _limits[name] = max(_limits[name], limit)
    return all(mallopt(name, limit) for name, limit in _limits.items())

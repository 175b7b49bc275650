"""How a job's process takes memory from the system."""

from __future__ import annotations

import ctypes

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Keep memory that is freed for the tensors of the next step, where the C library is glibc; else do nothing.

    By default it is given back, and a training step then has a large part of its pages cleared by the system anew.
    A job's peak of memory is the same, but it stays at it to its end.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, NEVER)
        mallopt(M_MMAP_MAX, 0)

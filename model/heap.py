"""How a process that computes with tensors keeps the memory that it frees."""

# Why: docs/adr/0070-short-slots.md

from __future__ import annotations

import ctypes
from typing import Final

# mallopt(3) of glibc: a constant, and its value.
_SETTINGS: Final = (
    (-8, 1),  # M_ARENA_MAX: one heap, whichever thread trains
    (-3, 32 << 20),  # M_MMAP_THRESHOLD: larger ones than these bytes get pages of their own
    (-1, 1 << 30),  # M_TRIM_THRESHOLD: so many free bytes are kept
    (-2, 64 << 20),  # M_TOP_PAD: and so many are fetched at once
)


def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of freed memory for the next tensor; false where the libc cannot.

    A step frees and takes hundreds of megabytes. By default most of them go back to the kernel each
    time, which hands them out again page by page, zeroed: an eighth of a step of the tiny base.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return all(mallopt(constant, value) == 1 for constant, value in _SETTINGS)

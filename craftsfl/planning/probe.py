"""How fast this machine is now: a fixed piece of arithmetic, timed."""

from __future__ import annotations

import time
from typing import Final

import numpy as np

_SIDE: Final = 768  # square float32 matrices of this side are multiplied
_TIMES: Final = 20  # so many times


def probe() -> float:
    """Seconds that a fixed piece of arithmetic takes on this machine at its current load."""
    matrix = np.ones((_SIDE, _SIDE), np.float32)
    began = time.perf_counter()
    for _ in range(_TIMES):
        matrix @ matrix
    return time.perf_counter() - began

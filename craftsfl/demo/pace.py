"""How long the demo's hospitals get to train before their updates leave.

An update that is not done when its reply slot comes never leaves, so the slot has to be longer than
training on this machine, which all of them share; a real consortium agrees on one that is longer
than the slowest site's training. Here the machine's pace is measured before the study is written.
"""

from __future__ import annotations

import math
import time
from typing import Final

import numpy as np

# A slot over the probe's seconds, for each patient that all hospitals together draw in a round.
# Measured where three hospitals share two idle cores: 1,950 such patients train for about 20 s
# beside a probe of 0.23 s; twice that, for the machine may get busier than it was.
PROBES_A_PATIENT: Final = 2 * 20.0 / (1950 * 0.23)
SHORTEST: Final = 20.0  # seconds
LONGEST: Final = 300.0  # the round's deadline leaves as much again
_SIDE: Final = 768  # the probe multiplies square float32 matrices of this side,
_TIMES: Final = 20  # so many times


def slot_for(patients: float, probe: float) -> float:
    """Seconds of the reply slot where `patients` are drawn in a round and the probe took `probe` s.

    In whole multiples of 5 s: the slot is public, and so coarse it says little of the machine.
    """
    seconds = patients * probe * PROBES_A_PATIENT
    return float(min(LONGEST, max(SHORTEST, 5 * math.ceil(seconds / 5))))


def probe() -> float:
    """Seconds that a fixed piece of arithmetic takes on this machine as busy as it is now."""
    matrix = np.ones((_SIDE, _SIDE), np.float32)
    began = time.perf_counter()
    for _ in range(_TIMES):
        matrix @ matrix
    return time.perf_counter() - began

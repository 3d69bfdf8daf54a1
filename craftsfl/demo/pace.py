"""How long the demo's hospitals may train before their updates leave.

An update that is not ready at its reply slot never leaves, so the slot has to be longer than
training takes on this machine, which all hospitals share. A real consortium agrees on a slot longer
than the slowest site's training; here the machine's speed is measured before the study is written.
"""

from __future__ import annotations

import math
from typing import Final

# Length of the slot divided by the probe's time, per patient that all hospitals together draw in a
# round. Measured with three hospitals sharing two idle cores: 1,950 such patients train for about
# 20 s where the probe takes 0.23 s, and 1,560 for 15 to 20 s where it takes 0.1 s. Four times the
# first, because the machine may get busier than it was, and a slot that is missed costs the round.
PROBES_A_PATIENT: Final = 4 * 20.0 / (1950 * 0.23)
SHORTEST: Final = 15.0  # seconds
LONGEST: Final = 300.0  # the round's deadline leaves the same time again


def slot_for(patients: float, probe: float) -> float:
    """The reply slot in seconds, if `patients` are drawn in a round and the probe took `probe` s.

    A multiple of 5 s: the slot is public, and a coarse one says little about the machine.
    """
    seconds = patients * probe * PROBES_A_PATIENT
    return float(min(LONGEST, max(SHORTEST, 5 * math.ceil(seconds / 5))))

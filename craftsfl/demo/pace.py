"""How long the demo's hospitals may train before their updates leave.

An update that is not ready at its reply slot never leaves, so the slot has to be longer than
training takes on this machine, which all hospitals share. A real consortium agrees on a slot longer
than the slowest site's training; here the machine's speed is measured before the study is written.
"""

# Why: docs/adr/0064-references-that-are-measured-once.md

from __future__ import annotations

import math
from typing import Final

from craftsfl.demo.studies import DemoMode, patients_at_once

# Of a pooled step, in probes: a gradient takes 0.7 billion operations and the probe 18 billion, so
# three hospitals on two idle cores train for 0.032 probes a patient, and for 0.02 where the frozen
# layers compute in bfloat16 (bench.site_step), from when the request has arrived. Half as much
# again: other programs and the public figures take their part of the cores. A training that was
# stopped goes on where it was, so that a slot that was too short costs a spare attempt.
_PROBES_A_PATIENT: Final = 0.05
_PROBES_A_PATIENT_IN_BFLOAT16: Final = 0.03
_PROBES_OF_A_MESSAGE: Final = 8.0  # until the request has reached the last trainer, and more
# Twice what it takes here from request to the last site's update, in seconds (ADR 70).
SHORTEST: Final = 3.5
_COARSE: Final = 0.5  # the slot is public: a coarse one says little about the machine

# Of a round of local steps, whose exchanges begin while the sites still train: 1,950 patients who
# were drawn take 20 s where the probe takes 0.23 s. Four times that: a slot that is missed costs
# the whole round.
_PROBES_A_DRAWN_PATIENT: Final = 4 * 20.0 / (1950 * 0.23)
_SHORTEST_ROUND: Final = 15.0
_COARSE_ROUND: Final = 5.0

LONGEST: Final = 300.0  # the round's deadline leaves the same time again


def slot_for(mode: DemoMode, declared: int, probe: float, *, bfloat16: bool = False) -> float:
    """The reply slot in seconds for `declared` patients, where the probe took `probe` seconds.

    `bfloat16`: whether the processor multiplies it, see `client.training.precision`.
    """
    patients = patients_at_once(mode, declared)
    if mode == "pooled":
        each = _PROBES_A_PATIENT_IN_BFLOAT16 if bfloat16 else _PROBES_A_PATIENT
        seconds = probe * (_PROBES_OF_A_MESSAGE + each * patients)
        shortest, coarse = SHORTEST, _COARSE
    else:
        seconds = patients * probe * _PROBES_A_DRAWN_PATIENT
        shortest, coarse = _SHORTEST_ROUND, _COARSE_ROUND
    return min(LONGEST, max(shortest, coarse * math.ceil(seconds / coarse)))

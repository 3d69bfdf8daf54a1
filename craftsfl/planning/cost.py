"""What a plan costs besides privacy: bytes on the line, bytes on disk, and time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from craftsfl.planning.noise import PlannedNoise
from craftsfl.planning.request import PlanRequest
from privacy.mechanisms.pooled.grid import ROTATION_SEED_BYTES, PooledGrid
from privacy.wire.sealed import CHECK_BYTES, PROOF_LANES

# Seconds of a step beside its slot, with three sites on one machine (docs/measurements.md).
STEP_SECONDS: Final = 1.3
# The same of a round of masked updates: five exchanges and a roll call.
ROUND_SECONDS: Final = 4.0
# A slot that is missed costs the step, so it is longer than training: twice as long,
SLOT_OVER_TRAINING: Final = 2.0
# and no shorter than hospitals' policies allow unless they say otherwise (min_reply_slot).
USUAL_SLOT: Final = 60.0
_SLOT_STEP: Final = 5  # seconds: a coarse slot says little about a machine
_FRAME: Final = 2048  # bytes of an envelope and what a body has beside its vector
_LANE: Final = 8
_UPDATE_BYTES: Final = 2  # of a number of a masked update at 16 bits
_ADAPTER_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class PlannedCost:
    """`up` and `down`: bytes of one site in one step. Seconds are of wall time.

    `training`: of the largest site in a step, None if unknown; `slot`: when updates leave; `whole`:
    all steps, none lost; `kept`: bytes in the coordinator's database at the end.
    """

    up: int
    down: int
    kept: int
    training: float | None
    slot: float
    whole: float


def planned_cost(
    asked: PlanRequest, noise: PlannedNoise, gradient_seconds: float | None
) -> PlannedCost:
    """Of the mode of `noise`, where a row's gradient takes `gradient_seconds`, if that is known."""
    rows = asked.largest_site * asked.tiles * asked.draws
    training = None if gradient_seconds is None else rows * gradient_seconds
    slot = asked.slot or slot_for_training(training or 0.0)
    if noise.mode == "alone":  # nobody waits for anybody
        own = slot if training is None else training
        return PlannedCost(0, 0, 0, training, own, asked.steps * own)
    parameters, sites = asked.parameters, len(asked.sites)
    if noise.mode == "local":
        up, down = _UPDATE_BYTES * parameters + _FRAME, _ADAPTER_BYTES * parameters + _FRAME
        return PlannedCost(up, down, 0, training, slot, asked.steps * (slot + ROUND_SECONDS))
    grid = PooledGrid.of(noise.terms, sites, bytes(ROTATION_SEED_BYTES))
    vector = _LANE * (grid.lanes + PROOF_LANES)
    up = vector + CHECK_BYTES * (sites - 1) + _FRAME
    kept = asked.steps * (sites * up + vector)
    whole = asked.steps * (slot + STEP_SECONDS)
    return PlannedCost(up, vector + _FRAME, kept, training, slot, whole)


def slot_for_training(seconds: float) -> float:
    """The reply slot for training that takes so long: public, so rounded up to 5 s."""
    wanted = max(USUAL_SLOT, SLOT_OVER_TRAINING * seconds)
    return float(_SLOT_STEP * math.ceil(wanted / _SLOT_STEP))

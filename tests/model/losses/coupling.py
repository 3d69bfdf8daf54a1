"""Does a loss couple patients? Every loss has to pass this test, and planted ones fail it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from model.losses import Loss, Rows
from privacy.dpsgd.engine import PhysicalBatch
from tests.model.losses.worlds import World, make_rows, take, with_others_replaced

PATIENTS = torch.tensor([3, 0, 7])
ROWS_EACH = 2
REPLACED = 3


@dataclass(frozen=True)
class Coupling:
    """How far patients touch each other, relative to the norm of the gradient; 0 is right.

    `sum`: the joint gradient against the sum over patients, each alone in its batch.
    `replaced`: the others' gradients when one patient is replaced.
    """

    sum: float
    replaced: float


def coupling(world: World, loss: Loss, make: Callable[..., Any]) -> Coupling:
    """Measured through a clipping engine (`make`), as training does."""
    rows, owners = make_rows(len(PATIENTS) * ROWS_EACH), PATIENTS.repeat_interleave(ROWS_EACH)
    with make(world.unet, world.trained) as engine:
        joint = _gradients(engine, world, loss, rows, PATIENTS)
        others = PATIENTS != REPLACED
        changed = with_others_replaced(rows, owners != REPLACED)
        replaced = _gradients(engine, world, loss, changed, PATIENTS)
    alone = []
    for patient in PATIENTS:
        one = take(rows, (owners == patient).nonzero().flatten())
        with make(world.unet, world.trained) as engine:  # an engine has batches of one shape
            alone.append(_gradients(engine, world, loss, one, patient[None])[0])
    assert (joint.norm(dim=1) > 0).all()
    assert _relative(replaced[~others], joint[~others]) > 0.1
    return Coupling(
        sum=_relative(torch.stack(alone).sum(dim=0), joint.sum(dim=0)),
        replaced=_relative(replaced[others], joint[others]),
    )


def _relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def _gradients(
    engine: Any, world: World, loss: Loss, rows: Rows, patients: torch.Tensor
) -> torch.Tensor:
    """Of each patient's mean loss, before any clip: float64 [patients, P]."""
    batch = PhysicalBatch(patients, lambda: loss(world.unet, rows, world.schedule), ROWS_EACH)
    found = engine.gradients(batch)
    assert found.usable.all()
    return found.values.double().clone()

"""Does a loss couple patients? The test that every loss has to pass, and that planted ones fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from model.losses import Loss, Rows
from privacy.dpsgd.engine import PhysicalBatch
from tests.model.losses.worlds import World, make_rows, take, with_others_replaced

OWNERS = torch.tensor([3, 3, 0, 7, 7])  # rows of three patients
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
    rows, patients = make_rows(len(OWNERS)), OWNERS.unique()
    with make(world.unet, world.trained) as engine:
        joint = _gradients(engine, world, loss, rows, OWNERS)
        alone = []
        for patient in patients:
            own = patient == OWNERS
            one = take(rows, own.nonzero().flatten())
            alone.append(_gradients(engine, world, loss, one, OWNERS[own])[0])
        others = patients != REPLACED
        changed = with_others_replaced(rows, OWNERS != REPLACED)
        replaced = _gradients(engine, world, loss, changed, OWNERS)
    assert (joint.norm(dim=1) > 0).all()
    assert _relative(replaced[~others], joint[~others]) > 0.1
    return Coupling(
        sum=_relative(torch.stack(alone).sum(dim=0), joint.sum(dim=0)),
        replaced=_relative(replaced[others], joint[others]),
    )


def _relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def _gradients(
    engine: Any, world: World, loss: Loss, rows: Rows, owners: torch.Tensor
) -> torch.Tensor:
    """Of each patient's mean loss, before any clip: float64 [patients, P]."""
    batch = PhysicalBatch(owners, lambda: loss(world.unet, rows, world.schedule))
    names, numbers = owners.unique(return_inverse=True)
    gradients, finite = engine._per_patient(batch, numbers, len(names))
    assert finite.all()
    return gradients.double().clone()

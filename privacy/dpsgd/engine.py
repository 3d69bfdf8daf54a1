"""What a clipping engine promises; every engine passes the same contract suite."""

# Why: docs/adr/0014-one-shape-for-all-batches.md

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import torch

BLANK: Final = -1
"""In `PhysicalBatch.patients`: an empty place."""


@dataclass(frozen=True)
class PhysicalBatch:
    """Rows that go through the network together, and whose they are. Never leaves the site.

    `patients`: int64 [places], a number that identifies the patient of a place within the step, or
    `BLANK`. A place holds `rows_each` rows, one place after the other, and a patient has one place.
    `losses`: runs the forward pass and returns the loss of every row, [places * rows_each], each a
    function of that row alone; blank rows may hold anything. Every forward pass keeps the number
    and order of the rows; one that should get no gradient runs under `torch.no_grad()`.
    """

    patients: torch.Tensor
    losses: Callable[[], torch.Tensor]
    rows_each: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """(places, rows of each): public, and the same for every batch of an engine."""
        return len(self.patients), self.rows_each


@dataclass(frozen=True)
class PatientGradients:
    """Each place's gradient, before any clip. Secret.

    `values`: float32 [places, P], which the caller may overwrite; arbitrary where not `usable`.
    `usable`: bool [places]: the place is taken, and all of its losses are finite.
    """

    values: torch.Tensor
    usable: torch.Tensor


@dataclass(frozen=True)
class ClippedSum:
    """Sum of the clipped gradients of one step. Secret until noise is added.

    `total`: float64 [P], multiples of C 2^-40.
    `patients`: how many were drawn; `dropped`: how many of them contributed zero because their
    loss or gradient was not finite. Both counts reveal something of the draw, so they stay at the
    site.
    """

    total: torch.Tensor
    patients: int
    dropped: int


class ClippingEngine(Protocol):
    """Sums per-patient gradients, each clipped on its own."""

    @property
    def size(self) -> int:
        """P: number of trainable parameters, in the order of the flat vector."""

    def gradients(self, batch: PhysicalBatch) -> PatientGradients:
        """The gradient of the mean row loss of every place.

        **A place's gradient is a function of its own rows, of the place and of the batch's shape,
        and of nothing that other places hold, bit for bit**: blanks, other patients, values that
        are not finite or denormal. Rounding in float32 depends on the *number* of rows (1, 3 and 16
        of them are served by different kernels), and a hostile adapter amplifies it to many times
        C; hence one shape for all batches. What a kernel does with a *place* depends on the device:
        `privacy.dpsgd.isolation` tests the one in use.

        Raises `AccountingError` for a shape other than that of the engine's first batch, losses of
        another shape, or a forward pass whose gradient could not be followed.
        """

    def clipped_sum(self, batches: Iterable[PhysicalBatch], clipping_norm: float) -> ClippedSum:
        """Sum over patients of g min(1, C / |g|), g the gradient of the patient's mean row loss.

        - Replacing any one patient by a blank changes the sum by at most C (1 + 1e-6) in L2 norm,
          and not one bit of the other patients' contributions, whatever the rows and the adapter
          hold.
        - Contributions are added in integers: their order changes nothing.
        - No batches, or only blanks: zeros.
        - A patient with a loss or gradient that is not finite contributes zero.
        - The sum is the same in train and eval mode, if the module has no dropout.

        Raises `AccountingError` for a clipping norm that is not positive and finite, a patient
        who stands in two places, and where `gradients` does. An error from `losses` passes through;
        the engine can be used again afterwards.
        """

    def contributions(
        self, batches: Iterable[PhysicalBatch], clipping_norm: float
    ) -> Iterator[torch.Tensor]:
        """What every place of each batch adds to a sum: int32 [places, P], in units of C 2^-30.

        g min(1, C / |g|), truncated towards zero, as for `clipped_sum` but in coarser units, and
        with a norm of **at most 2^30, exactly**. Zeros for a blank place and for a patient with a
        loss or gradient that is not finite. Every batch is computed, whoever stands in it. Raises
        as `clipped_sum`.
        """

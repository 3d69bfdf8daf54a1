"""What a clipping engine promises; every engine passes the same contract suite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import torch


@dataclass(frozen=True)
class PhysicalBatch:
    """Rows that go through the network together, and whose they are. Never leaves the site.

    `patients`: int64 [rows], any number that names a row's patient within the step. All rows of a
    patient (its tiles, and the draws of each) stand in one physical batch.
    `losses`: runs the forward pass and returns the loss of every row, [rows], each a function of
    that row alone. Every forward pass keeps the rows' number and order; one that shall get no
    gradient runs under `torch.no_grad()`.
    """

    patients: torch.Tensor
    losses: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class ClippedSum:
    """Sum of the clipped gradients of one step. Secret until noise is added.

    `total`: float64 [P]; float64 so that rounding adds nothing to the clipping norm.
    `patients`: how many were drawn; `dropped`: how many of them contributed zero because their
    loss or gradient was not finite. Both counts tell about the draw: they stay at the site.
    """

    total: torch.Tensor
    patients: int
    dropped: int


class Closing(ABC):
    """An engine as a context manager: `close` at the end of the block, also after an error."""

    @abstractmethod
    def close(self) -> None:
        """Take off whatever is attached to the module. Calling it again changes nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ClippingEngine(Protocol):
    """Sums per-patient gradients, each clipped on its own."""

    @property
    def size(self) -> int:
        """P: number of trainable parameters, in the order of the flat vector."""

    def clipped_sum(self, batches: Iterable[PhysicalBatch], clipping_norm: float) -> ClippedSum:
        """Sum over patients of g min(1, C / |g|), g the gradient of the patient's mean row loss.

        - Removing any one patient changes the sum by at most C (1 + 1e-6) in L2 norm and leaves
          the other patients' contributions unchanged, however many rows it has.
        - No batches: zeros.
        - A patient with a loss or gradient that is not finite contributes zero.
        - The split into physical batches does not change the sum.
        - Train and eval mode give the same sum, if the module has no dropout.

        Raises `AccountingError` for a clipping norm that is not positive and finite, a patient
        in two physical batches, losses of another shape than `patients`, or a forward pass whose
        gradient could not be followed. An error from `losses` passes through; the engine can be
        used again afterwards.
        """

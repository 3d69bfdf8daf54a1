"""What the patients added to one step in which everybody is, for as long as it may be asked again.

An attempt at a step may be lost, and is then tried again at the same adapter. Where everybody is in
every step there is no draw that has to be fresh: the sum may be used again, with noise of its own,
and is charged again. So may the part of it that was there when an attempt's slot ended.
"""

# Why: docs/adr/0042-everybody-in-a-place-of-their-own.md

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST_KEPT: Final = 1 << 29
"""Bytes of all patients' parts that are kept at most; from public numbers, whoever takes part."""

_STEP_TAG: Final = b"craftsfl/step-of-all/v1\0"
_STEP_NUMBER: Final = struct.Struct(">Q")


def step_label(adapter: NDArray[np.float32], step: int) -> bytes:
    """32 bytes that name `step` at `adapter`: another bit of either, another label."""
    numbers = np.ascontiguousarray(adapter, "<f4").tobytes()
    return hashlib.sha256(_STEP_TAG + _STEP_NUMBER.pack(step) + numbers).digest()


class StepSum:
    """The sum of one step so far, and what everybody added to it. Secret.

    It is whole once `batches` were added; a training that was stopped goes on from `done`.
    Every patient's part is kept, int32 [slots, P], if that takes `MOST_KEPT` bytes at most: so
    whoever withdraws can be taken out, without training. Of larger ones there is the sum alone.
    """

    def __init__(self, label: bytes, slots: int, parameters: int, batches: int) -> None:
        self.label = label
        self.done = 0
        self._batches = batches
        self.total = np.zeros(parameters, np.int64)
        size = slots * parameters * np.dtype(np.int32).itemsize
        self._parts = np.zeros((slots, parameters), np.int32) if size <= MOST_KEPT else None
        self._filled = 0

    @property
    def is_whole(self) -> bool:
        """Whether everybody's part is in it."""
        return self.done == self._batches

    def add(self, parts: Tensor) -> None:
        """Add those of the next places, int32 [places, P]: zeros beyond the last slot."""
        # Integers: the same sum in any order, on any device.
        self.total += parts.sum(dim=0, dtype=torch.int64).cpu().numpy()
        self.done += 1
        if self._parts is not None:
            there = self._parts[self._filled : self._filled + len(parts)]
            there[:] = parts[: len(there)].cpu().numpy()
            self._filled += len(there)

    def take_out(self, patients: Iterable[int]) -> bool:
        """Subtract their parts and forget them; False, and unchanged, if these are not known."""
        if self._parts is None:
            return False
        for patient in patients:
            if patient < len(self._parts):
                self.total -= self._parts[patient]
                self._parts[patient] = 0
        return True

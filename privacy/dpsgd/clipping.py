"""What all clipping engines share: the loop over physical batches, the clipping, the checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from privacy.dpsgd.engine import BLANK, ClippedSum, PatientGradients, PhysicalBatch
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.errors import AccountingError, ModelError

GRID_BITS: Final = 40
"""Contributions are integers in units of C 2^-40: 2^23 patients fit into 64 bits."""

SMALLEST_NORM: Final = 1e-12
"""Smallest C. Far below it, 2^40 / C overflows, and a gradient of zeros would become NaN."""

# Columns of the flat buffer that are held in float64 at once: on a CPU they stay in its cache.
_COLUMNS_CPU: Final = 1 << 14
_COLUMNS_GPU: Final = 1 << 18

Gradients: TypeAlias = Callable[[PhysicalBatch], PatientGradients]


def sum_clipped(
    batches: Iterable[PhysicalBatch], clipping_norm: float, like: Tensor, gradients: Gradients
) -> ClippedSum:
    """`ClippingEngine.clipped_sum` for an engine that takes gradients by `gradients`.

    `like` is a tensor of P elements on the device of the model.
    """
    check_clipping_norm(clipping_norm)
    # `seen` over all batches: a patient who stood in two of them would contribute up to 2 C.
    total: Tensor | None = None  # allocated after the first activations are freed, below the peak
    seen: set[int] = set()
    dropped = 0
    for batch in batches:
        present = _check_apart(seen, batch.patients)
        found = gradients(batch)
        total = _zeros(like) if total is None else total
        dropped += present - add_clipped(total, found, clipping_norm)
        del found  # before the next forward pass
    total = _zeros(like) if total is None else total
    grid = clipping_norm * 2.0**-GRID_BITS
    return ClippedSum(total.double() * grid, patients=len(seen), dropped=dropped)


def _zeros(like: Tensor) -> Tensor:
    return torch.zeros(like.numel(), dtype=torch.int64, device=like.device)


def add_clipped(total: Tensor, found: PatientGradients, clipping_norm: float) -> int:
    """Add each place's gradient, clipped, to `total`; return how many places added anything.

    `total` int64 [P], in units of C 2^-40. A place that is not usable, or whose gradient turns out
    not to be finite, is *selected* away and overwritten with zeros: weighted with zero, one NaN
    would spread to everybody. Norms are taken in float64, a few columns at a time, without a copy.
    Each number is rounded towards zero, which lengthens no vector; integers add up exactly, in
    any order and on any number of devices.
    """
    gradients = found.values
    kept, scales = _selected(found, clipping_norm, GRID_BITS)
    for part in _parts(gradients):
        scaled = gradients[:, part].double() * scales[:, None]  # g min(1, C / |g|) / (C 2^-40)
        # Truncated towards zero before the sum: |.| only shrinks, so that the sensitivity stays C;
        # integers then add up the same in every order.
        total[part] += scaled.to(torch.int64).sum(dim=0)
    return int(kept.sum())


def contributions_of(
    batches: Iterable[PhysicalBatch], clipping_norm: float, gradients: Gradients
) -> Iterator[Tensor]:
    """`ClippingEngine.contributions` for an engine that takes gradients by `gradients`."""
    check_clipping_norm(clipping_norm)
    seen: set[int] = set()
    for batch in batches:
        _check_apart(seen, batch.patients)
        yield clipped_integers(gradients(batch), clipping_norm)


def clipped_integers(found: PatientGradients, clipping_norm: float) -> Tensor:
    """Each place's gradient, clipped and truncated towards zero: int32 [places, P], C 2^-30 each.

    Zeros where a place is not usable or its gradient not finite, by selection as in `add_clipped`.
    No row is longer than 2^30 as a vector of integers: that is computed without rounding, and a row
    for which it did not hold would be zeros too. Takes the memory of `found.values`, which is
    overwritten.
    """
    gradients = found.values
    _, scales = _selected(found, clipping_norm, CONTRIBUTION_BITS)
    integers = gradients.view(torch.int32)
    squares = torch.zeros(len(gradients), dtype=torch.int64, device=gradients.device)
    for part in _parts(gradients):
        scaled = gradients[:, part].double() * scales[:, None]  # g min(1, C / |g|) / (C 2^-30)
        own = scaled.to(torch.int64)  # truncated
        # At most 2^60 (1 + 1e-9) in all, since the norm that was divided by is right to that.
        squares += own.square().sum(dim=1)
        integers[:, part] = own.to(torch.int32)
    return integers.masked_fill_((squares > 1 << 2 * CONTRIBUTION_BITS)[:, None], 0)


def _selected(found: PatientGradients, clipping_norm: float, bits: int) -> tuple[Tensor, Tensor]:
    """Which places add anything, and what clips each one's gradient and gives it its unit.

    bool [places]; float64 [places], min(1, C / |g|) in units of C 2^-bits. The gradients of the
    other places are overwritten with zeros.
    """
    norms = _norms(found.values)
    # float64 holds the square of every float32: a norm is finite exactly where all numbers are.
    kept = found.usable & norms.isfinite()
    found.values.masked_fill_(~kept[:, None], 0.0)
    # The clamp is the clip, and C cancels where it binds.
    return kept, torch.where(kept, 2.0**bits / norms.clamp(min=clipping_norm), 0.0)


def _norms(gradients: Tensor) -> Tensor:
    """L2 norm of every row, float64 [rows]. `vector_norm` with a dtype would copy everything."""
    parts = [
        torch.linalg.vector_norm(gradients[:, part].double(), dim=1) for part in _parts(gradients)
    ]
    # The root of summed squares of the parts' norms: the same L2 norm, within the tolerance that
    # accounting charges for (`SENSITIVITY_TOLERANCE`).
    norms: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    return norms


def _parts(gradients: Tensor) -> list[slice]:
    width = _COLUMNS_CPU if gradients.device.type == "cpu" else _COLUMNS_GPU
    return [slice(start, start + width) for start in range(0, gradients.shape[1], width)]


def mean_losses(losses: Tensor, batch: PhysicalBatch) -> Tensor:
    """Sum over places of their mean row losses: a scalar for the backward pass.

    Raises `AccountingError` unless there is one loss for each row that a gradient leads to.
    """
    places, rows_each = batch.shape
    if losses.shape != (places * rows_each,):
        raise AccountingError(
            f"{tuple(losses.shape)} losses for {places * rows_each} rows.",
            "A loss must return one number for each row.",
        )
    if not losses.requires_grad:
        raise unfollowed()
    # A sum over places, whose gradients stay apart, of the mean over each one's rows.
    return losses.float().sum() / rows_each


def usable_places(losses: Tensor, batch: PhysicalBatch) -> Tensor:
    """bool [places]: the place is taken, and all of its losses are finite."""
    finite: Tensor = losses.detach().isfinite().view(batch.shape).all(dim=1)
    return finite & (batch.patients != BLANK).to(finite.device)


class OneShape:
    """Remembers the shape of an engine's first batch, and refuses all others."""

    def __init__(self) -> None:
        self._shape: tuple[int, int] | None = None

    def check(self, batch: PhysicalBatch) -> None:
        """Raise `AccountingError` for a batch of another shape, or for an empty one."""
        places, rows_each = batch.shape
        if batch.patients.dim() != 1 or places < 1 or rows_each < 1:
            raise AccountingError("A physical batch has at least one place of one row.")
        self._shape = self._shape or batch.shape
        if batch.shape != self._shape:
            raise AccountingError(
                f"A physical batch has {places} places of {rows_each} rows; the engine's others "
                f"have {self._shape[0]} of {self._shape[1]}.",
                "Fill places with blanks: how gradients are rounded depends on the number of rows.",
            )


def check_clipping_norm(clipping_norm: float) -> None:
    """Raise `AccountingError` unless it is finite and at least `SMALLEST_NORM`."""
    if not (math.isfinite(clipping_norm) and clipping_norm >= SMALLEST_NORM):
        raise AccountingError(
            f"The clipping norm is {clipping_norm!r}; it must be at least {SMALLEST_NORM:g}."
        )


def check_trainable(module: nn.Module, parameters: tuple[nn.Parameter, ...]) -> None:
    """Raise `ModelError` unless `parameters` are the trainable ones, once each, on one device."""
    wanted = {id(parameter) for parameter in parameters}
    trainable = {id(p) for p in module.parameters() if p.requires_grad}
    if not parameters or len(wanted) != len(parameters) or wanted != trainable:
        raise ModelError(
            f"{len(parameters)} parameters to clip, {len(trainable)} trainable ones in the model.",
            "Freeze everything but the adapter, and name each of its parameters once.",
        )
    if len({parameter.device for parameter in parameters}) > 1:
        raise ModelError("The adapter lies on several devices.", "Move the model to one device.")


def check_rows_stay_apart(parts: Iterable[nn.Module]) -> None:
    """A batch norm in train mode mixes rows, and so patients: nothing could be clipped then."""
    if any(isinstance(part, _BatchNorm) and part.training for part in parts):
        raise ModelError(
            "A batch norm in train mode mixes patients.", "Put the frozen model into eval mode."
        )


def unfollowed() -> AccountingError:
    """The error of a gradient that does not come from one row each."""
    return AccountingError(
        "The gradient of a forward pass could not be followed row by row.",
        "Keep number and order of the rows, and run passes without a gradient under no_grad().",
    )


def _check_apart(seen: set[int], patients: Tensor) -> int:
    """How many patients stand in the batch; raises where one of them has had a place before."""
    names = [name for name in patients.tolist() if name != BLANK]
    if len(set(names)) != len(names) or not seen.isdisjoint(names):
        raise AccountingError(
            "A patient stands in two places.", "Keep all rows of a patient together."
        )
    seen.update(names)
    return len(names)

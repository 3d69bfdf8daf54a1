"""What all clipping engines share: the loop over physical batches, the clip, the checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from privacy.dpsgd.engine import ClippedSum, PhysicalBatch
from privacy.errors import AccountingError, ModelError

# Columns of the flat buffer that are held in float64 at once: on a CPU they stay in its cache.
_COLUMNS_CPU: Final = 1 << 14
_COLUMNS_GPU: Final = 1 << 18

# (batch, owners int64 [rows] in 0..patients-1, patients) to the gradients float32 [patients, P] of
# every patient's mean loss, which the caller may overwrite, and which of them are finite.
PerPatient: TypeAlias = Callable[[PhysicalBatch, Tensor, int], tuple[Tensor, Tensor]]


def sum_clipped(
    batches: Iterable[PhysicalBatch],
    clipping_norm: float,
    like: Tensor,
    per_patient: PerPatient,
) -> ClippedSum:
    """`ClippingEngine.clipped_sum` for an engine that takes gradients by `per_patient`.

    `like` is a tensor of P elements on the device of the model.
    """
    check_clipping_norm(clipping_norm)
    total: Tensor | None = None  # made once the first activations are gone: no part of the peak
    seen: set[int] = set()
    dropped = 0
    for batch in batches:
        names, owners = torch.unique(batch.patients, return_inverse=True)
        _check_whole(seen, names.tolist())
        found = per_patient(batch, owners.to(like.device), len(names))
        total = _zeros(like) if total is None else total
        dropped += add_clipped(total, *found, clipping_norm)
        del found  # before the next forward pass
    return ClippedSum(_zeros(like) if total is None else total, patients=len(seen), dropped=dropped)


def _zeros(like: Tensor) -> Tensor:
    return torch.zeros(like.numel(), dtype=torch.float64, device=like.device)


def add_clipped(total: Tensor, gradients: Tensor, finite: Tensor, clipping_norm: float) -> int:
    """Add the rows of `gradients`, each clipped, to `total`; return how many were dropped.

    `total` float64 [P], `gradients` float32 [patients, P], `finite` bool [patients]. A row that
    is marked or turns out not to be finite is left out, and overwritten with zeros. Norm and sum
    are taken in float64, a few columns at a time: no copy of `gradients` is made.
    """
    norms = _norms(gradients)
    kept = finite & norms.isfinite()
    if not bool(kept.all()):
        gradients[~kept] = 0.0  # zero times NaN would be NaN
    scales = torch.where(kept, clipping_norm / norms.clamp(min=clipping_norm), 0.0)
    for part in _parts(gradients):
        total[part] += scales @ gradients[:, part].double()  # sum of g min(1, C / |g|)
    return int((~kept).sum())


def _norms(gradients: Tensor) -> Tensor:
    """L2 norm of every row, float64 [rows]. `vector_norm` with a dtype would copy the whole."""
    parts = [
        torch.linalg.vector_norm(gradients[:, part].double(), dim=1) for part in _parts(gradients)
    ]
    norms: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    return norms


def _parts(gradients: Tensor) -> list[slice]:
    width = _COLUMNS_CPU if gradients.device.type == "cpu" else _COLUMNS_GPU
    return [slice(start, start + width) for start in range(0, gradients.shape[1], width)]


def mean_losses(losses: Tensor, owners: Tensor, patients: int) -> Tensor:
    """Sum over patients of each one's mean row loss: a scalar to take the gradient of.

    Raises `AccountingError` unless there is one loss for each row that a gradient leads to.
    """
    if losses.shape != owners.shape:
        raise AccountingError(
            f"{tuple(losses.shape)} losses for {len(owners)} rows.",
            "A loss must return one number for each row.",
        )
    if not losses.requires_grad:
        raise unfollowed()
    weights = (1.0 / torch.bincount(owners, minlength=patients))[owners]
    return (losses.float() * weights).sum()


def finite_patients(losses: Tensor, owners: Tensor, patients: int) -> Tensor:
    """bool [patients]: all of the patient's losses are finite."""
    wrong = torch.zeros(patients, dtype=torch.int64, device=owners.device)
    wrong.index_add_(0, owners, (~losses.detach().isfinite()).long())
    return wrong == 0


def check_clipping_norm(clipping_norm: float) -> None:
    """Raise `AccountingError` unless it is positive and finite."""
    if not (math.isfinite(clipping_norm) and clipping_norm > 0):
        raise AccountingError(f"The clipping norm is {clipping_norm!r}; it must be positive.")


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


def _check_whole(seen: set[int], names: list[int]) -> None:
    if not seen.isdisjoint(names):
        raise AccountingError(
            "A patient stands in two physical batches.", "Keep all rows of a patient together."
        )
    seen.update(names)

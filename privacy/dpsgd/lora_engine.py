"""The clipping engine for LoRA: one backward pass, one flat buffer, one norm a patient."""

# Why: docs/adr/0006-lora-clipping-engine.md

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from privacy.closing import Closing
from privacy.dpsgd.clipping import (
    OneShape,
    check_rows_stay_apart,
    check_trainable,
    contributions_of,
    mean_losses,
    sum_clipped,
    unfollowed,
    usable_places,
)
from privacy.dpsgd.engine import ClippedSum, PatientGradients, PhysicalBatch
from privacy.dpsgd.lora_leaves import GradientBuffer, Leaf, Places, check_leaf, replacement
from privacy.dpsgd.reproducible import reproducible
from privacy.errors import ModelError


class LoraEngine(Closing):
    """`ClippingEngine` over `parameters` (in flat order), the trainable ones of `module`.

    For linear layers and two-dimensional convolutions (with or without bias, groups of 1), as
    peft's LoRA has them; either factor may be frozen. Meant for small ones: a physical batch
    takes 4 bytes for each parameter and place. Works in train and eval mode, under autocast
    (gradients in the lower precision, sums, norms and clip in float32 and float64) and under
    gradient checkpointing of both kinds. Nothing is attached to the module between calls.

    All other parameters must be frozen. Raises `ModelError` otherwise.
    """

    def __init__(self, module: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        self._parts = tuple(module.modules())  # collecting them again would cost 1 % of a step
        self._parameters = tuple(parameters)
        check_trainable(module, self._parameters)
        self._size = sum(parameter.numel() for parameter in self._parameters)
        slices = _slices(self._parameters)
        self._places = tuple(slices.values())
        self._leaves = _leaves(module, slices)
        self._shape = OneShape()

    @property
    def size(self) -> int:
        """See `ClippingEngine.size`."""
        return self._size

    def close(self) -> None:
        """Nothing to do: every call leaves the module as it was."""

    def gradients(self, batch: PhysicalBatch) -> PatientGradients:
        """See `ClippingEngine.gradients`."""
        self._shape.check(batch)
        device = self._parameters[0].device
        found = GradientBuffer(batch.shape, self.size, device)
        with reproducible(device), self._replaced(found), torch.enable_grad():
            losses = batch.losses()
            total = mean_losses(losses, batch)
            found.open = True  # not before: a loss may take gradients of its own
            total.backward()  # type: ignore[no-untyped-call]
            found.open = False
            # The leaves return no gradient for a weight. One that has arrived all the same took
            # another way, is summed over patients, and cannot be clipped.
            if any(parameter.grad is not None for parameter in self._parameters):
                raise unfollowed()
        return PatientGradients(found.finished(self._places), usable_places(losses, batch))

    def clipped_sum(self, batches: Iterable[PhysicalBatch], clipping_norm: float) -> ClippedSum:
        """See `ClippingEngine.clipped_sum`."""
        check_rows_stay_apart(self._parts)
        _check_not_compiled(self._parts)
        like = self._parameters[0].new_empty(()).expand(self.size)
        return sum_clipped(batches, clipping_norm, like, self.gradients)

    def contributions(
        self, batches: Iterable[PhysicalBatch], clipping_norm: float
    ) -> Iterator[torch.Tensor]:
        """See `ClippingEngine.contributions`."""
        check_rows_stay_apart(self._parts)
        _check_not_compiled(self._parts)
        return contributions_of(batches, clipping_norm, self.gradients)

    @contextmanager
    def _replaced(self, into: GradientBuffer) -> Iterator[None]:
        """The leaves' forwards replaced inside; afterwards no trace, error or not."""
        if any("forward" in vars(leaf) for leaf, _ in self._leaves):
            raise ModelError(
                "A layer of the adapter has a forward of its own already.",
                "Take offloading hooks off the model, and use one engine at a time.",
            )
        self._forget()
        try:
            for leaf, places in self._leaves:
                vars(leaf)["forward"] = replacement(leaf, places, into)
            yield
        finally:
            for leaf, _ in self._leaves:
                vars(leaf).pop("forward", None)
            self._forget()

    def _forget(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


def _slices(parameters: Iterable[nn.Parameter]) -> Mapping[int, slice]:
    """The place of each parameter in the flat vector, by its id."""
    places: dict[int, slice] = {}
    start = 0
    for parameter in parameters:
        places[id(parameter)] = slice(start, start + parameter.numel())
        start += parameter.numel()
    return places


def _leaves(module: nn.Module, slices: Mapping[int, slice]) -> tuple[tuple[Leaf, Places], ...]:
    """Modules that hold trainable parameters themselves, with the places of those."""
    found: list[tuple[Leaf, Places]] = []
    for leaf in module.modules():
        if any(p.requires_grad for p in leaf.parameters(recurse=False)):
            check_leaf(leaf)
            weight, bias = slices.get(id(leaf.weight)), slices.get(id(leaf.bias))
            found.append((leaf, Places(weight, bias)))  # type: ignore[arg-type]
    return tuple(found)


def _check_not_compiled(parts: Iterable[nn.Module]) -> None:
    """Compiled code was observed to return wrong LoRA gradients with a right loss (torch 2.13)."""
    for part in parts:
        if part._compiled_call_impl is not None or "_orig_mod" in part._modules:
            raise ModelError(
                "Per-patient gradients of a compiled model cannot be trusted.",
                "Use the model without torch.compile.",
            )

"""Per-patient clipping by opacus' hooks: the engine for all trainable layers that opacus knows.

For every trainable leaf opacus keeps the inputs of the forward pass, and contracts them with the
gradients of the outputs row by row (Goodfellow 2015, arXiv 1510.01799). Here its hooks are attached
to the trainable leaves only, and its per-row gradients are added up by place before clipping.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from opacus.grad_sample import GradSampleHooks
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
from privacy.dpsgd.reproducible import reproducible
from privacy.errors import ModelError

# True of the first adapted layer, whose input needs no gradient; it does not matter here.
warnings.filterwarnings("ignore", message="Full backward hook is firing when gradients")


class OpacusEngine(Closing):
    """`ClippingEngine` over `parameters` (in flat order), the trainable ones of `module`.

    All other parameters must be frozen. Every parameter's module has to be of a type for which
    opacus has a rule (linear, convolution, embedding, layer and group norm). Works in eval mode,
    in which diffusers pipelines come and which opacus itself refuses: only the leaves are in
    train mode, only while gradients are taken, and for those types the mode changes nothing.

    One engine a module at a time; `close` takes the hooks off. Raises `ModelError` otherwise.
    """

    def __init__(self, module: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        self._module = module
        self._parameters = tuple(parameters)
        check_trainable(module, self._parameters)
        self._leaves = _leaves(module)
        self._shape = OneShape()
        try:
            self._hooks = GradSampleHooks(module, loss_reduction="sum", strict=True)
        except (NotImplementedError, ValueError) as error:
            raise ModelError(
                "The model's trainable layers cannot be clipped per patient.",
                "Close the engine that is attached already, or choose other targets.",
            ) from error
        self._hooks.disable_hooks()

    @property
    def size(self) -> int:
        """See `ClippingEngine.size`."""
        return sum(parameter.numel() for parameter in self._parameters)

    def close(self) -> None:
        """Take all hooks off the module. Calling it again changes nothing."""
        self._hooks.cleanup()

    def gradients(self, batch: PhysicalBatch) -> PatientGradients:
        """See `ClippingEngine.gradients`."""
        self._shape.check(batch)
        device = self._parameters[0].device
        with reproducible(device), self._recording(), torch.enable_grad():
            losses = batch.losses()
            mean_losses(losses, batch).backward()  # type: ignore[no-untyped-call]
            values = self._gather(batch)
        return PatientGradients(values, usable_places(losses, batch))

    def clipped_sum(self, batches: Iterable[PhysicalBatch], clipping_norm: float) -> ClippedSum:
        """See `ClippingEngine.clipped_sum`."""
        check_rows_stay_apart(self._module.modules())
        like = self._parameters[0].new_empty(()).expand(self.size)
        return sum_clipped(batches, clipping_norm, like, self.gradients)

    def contributions(
        self, batches: Iterable[PhysicalBatch], clipping_norm: float
    ) -> Iterator[torch.Tensor]:
        """See `ClippingEngine.contributions`."""
        check_rows_stay_apart(self._module.modules())
        return contributions_of(batches, clipping_norm, self.gradients)

    def _gather(self, batch: PhysicalBatch) -> torch.Tensor:
        """Per-row gradients of all leaves, added up by place: float32 [places, P]."""
        places, rows_each = batch.shape
        flat = torch.zeros(places, self.size, device=self._parameters[0].device)
        start = 0
        for parameter in self._parameters:
            rows = getattr(parameter, "grad_sample", None)
            stop = start + parameter.numel()
            if rows is not None:  # None: this leaf took no part in the loss
                self._check_followed(rows, places * rows_each)
                apart = rows.reshape(places, rows_each, -1).float()
                for j in range(rows_each):  # one after the other: the same order in every place
                    flat[:, start:stop] += apart[:, j]
            start = stop
        if any(getattr(leaf, "activations", None) for leaf in self._leaves):
            raise unfollowed()
        return flat

    @staticmethod
    def _check_followed(rows: object, count: int) -> None:
        if not isinstance(rows, torch.Tensor) or len(rows) != count:
            raise unfollowed()

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Hooks on and leaves in train mode inside; afterwards no trace, error or not."""
        modes = [leaf.training for leaf in self._leaves]
        self._forget()
        self._hooks.enable_hooks()
        try:
            for leaf in self._leaves:
                leaf.training = True
            yield
        finally:
            self._hooks.disable_hooks()
            for leaf, mode in zip(self._leaves, modes, strict=True):
                leaf.training = mode
            self._forget()

    def _forget(self) -> None:
        """Drop what opacus leaves on leaves and parameters, and the unused summed gradients."""
        for leaf in self._leaves:
            for name in ("activations", "max_batch_len"):
                leaf.__dict__.pop(name, None)
        for parameter in self._parameters:
            parameter.grad = None
            parameter.__dict__.pop("_current_grad_sample", None)
            parameter.__dict__.update(grad_sample=None, _forward_counter=0)


def _leaves(module: nn.Module) -> tuple[nn.Module, ...]:
    """Modules that hold the trainable parameters themselves."""
    leaves = tuple(
        leaf
        for leaf in module.modules()
        if any(p.requires_grad for p in leaf.parameters(recurse=False))
    )
    for leaf in leaves:
        # By exact type: a subclass may compute something else. Layers without a rule would go to
        # functorch, and might depend on the mode that is switched here.
        if type(leaf) not in GradSampleHooks.GRAD_SAMPLERS or any(True for _ in leaf.buffers()):
            raise ModelError(
                f"No rule for per-patient gradients of {type(leaf).__name__}.",
                "Choose other adapter targets.",
            )
    return leaves

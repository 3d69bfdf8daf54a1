"""Per-patient gradients of linear layers and convolutions, taken in the backward pass.

A leaf's forward is replaced by an autograd function that computes the same output. Its backward
contracts the output's gradient with the input row by row (Goodfellow 2015, arXiv 1510.01799),
adds the result to the patient's row of one flat buffer, and returns no gradient for the weight.
The factors of LoRA are small, r (d_in + d_out) numbers a layer, so nothing is gained by never
forming their gradients ("ghost" norms), which need a second backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from privacy.dpsgd.clipping import unfollowed
from privacy.errors import ModelError

_UNFOLDED: Final = 1 << 22  # numbers that an unfolded convolution may take at once: 16 MiB

Leaf: TypeAlias = nn.Linear | nn.Conv2d
_Context: TypeAlias = Any  # autograd's own, on which a function keeps what it likes


@dataclass(frozen=True)
class Places:
    """Where a leaf's weight and bias stand in the flat vector; None: frozen, or there is none."""

    weight: slice | None
    bias: slice | None


class PatientGradients:
    """The flat buffer of one physical batch: float32 [patients, P], filled while it is open."""

    def __init__(self, owners: Tensor, patients: int, parameters: int) -> None:
        """`owners` int64 [rows]: each row's patient, in 0..patients-1."""
        # Not zeros: its memory is first touched late in the backward pass, when the activations of
        # the later layers are gone already, and the peak of a step stays where it is.
        self._flat = torch.empty((patients, parameters), device=owners.device)
        self.open = False
        self._owners = owners
        self._written: set[int] = set()  # where the written places start
        alone = torch.arange(len(owners), device=owners.device)
        self._apart = patients == len(owners) and torch.equal(owners, alone)

    def __len__(self) -> int:
        """Number of rows in the physical batch."""
        return len(self._owners)

    def add(self, place: slice, rows: Tensor) -> None:
        """Add a parameter's gradients [rows, ...] to those of the rows' patients."""
        columns = self._flat[:, place]
        again = place.start in self._written
        self._written.add(place.start)
        if self._apart:  # a row each, in order: the sum over rows is the row
            mine = columns.view(rows.shape)
            mine.add_(rows) if again else mine.copy_(rows)
        else:
            start = columns if again else columns.zero_()
            start.index_add_(0, self._owners, rows.flatten(1).float())

    def finished(self, places: Iterable[slice]) -> Tensor:
        """The buffer; zeros in those of `places` (all of them together: P) that no pass reached."""
        for place in places:
            if place.start not in self._written:
                self._flat[:, place] = 0.0
        return self._flat


def replacement(leaf: Leaf, places: Places, into: PatientGradients) -> Callable[[Tensor], Tensor]:
    """A forward for `leaf`: the same output, but per-patient gradients go to `into`.

    It raises `AccountingError` where a pass with gradient has other rows than the batch.
    """
    # Looked up once: a layer's attributes cost as much as its small matrix products.
    original, weight, bias, rows = leaf.forward, leaf.weight, leaf.bias, len(into)
    function: Callable[..., Tensor] = _linear_rows
    constants: tuple[object, ...] = (places, into)
    if isinstance(leaf, nn.Conv2d):
        function, constants = _conv_rows, (places, into, _geometry(leaf))

    def forward(input: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return original(input)
        shape = input.shape
        if len(shape) < 2 or shape[0] != rows:
            raise unfollowed()
        if torch.is_autocast_enabled(input.device.type):
            return function(*_autocast(input, weight, bias), *constants)
        return function(input, weight, bias, *constants)

    return forward


def check_leaf(leaf: nn.Module) -> None:
    """Raise `ModelError` for a layer that has no rule here.

    By exact type: a subclass may compute something else.
    """
    known = type(leaf) is nn.Linear or (type(leaf) is nn.Conv2d and _is_plain(leaf))
    if not known:
        raise ModelError(
            f"No rule for per-patient gradients of {type(leaf).__name__}.",
            "Choose other adapter targets.",
        )


def _is_plain(leaf: nn.Conv2d) -> bool:
    return leaf.groups == 1 and leaf.padding_mode == "zeros" and not isinstance(leaf.padding, str)


def _autocast(x: Tensor, *others: Tensor | None) -> tuple[Tensor | None, ...]:
    """What autocast does to the arguments of a matrix product; its own cast comes too late here."""
    if x.dtype == torch.float64:
        return (x, *others)
    dtype = torch.get_autocast_dtype(x.device.type)
    return (x.to(dtype), *(None if other is None else other.to(dtype) for other in others))


class _LinearRows(torch.autograd.Function):
    """y = x W^T + b for x [rows, ..., d_in]."""

    @staticmethod
    def forward(
        ctx: _Context,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        places: Places,
        into: PatientGradients,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.places, ctx.into = places, into
        return functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        places, into = ctx.places, ctx.into
        if into.open:
            rows, (d_out, d_in) = len(into), weight.shape
            flat_dy = dy if dy.dim() == 3 else dy.reshape(rows, -1, d_out)
            if places.weight is not None:
                flat_x = x if x.dim() == 3 else x.reshape(rows, -1, d_in)
                into.add(places.weight, _product(flat_dy.transpose(1, 2), flat_x))
            if places.bias is not None:
                into.add(places.bias, flat_dy.sum(dim=1))
        dx = dy.matmul(weight) if ctx.needs_input_grad[0] else None
        return dx, None, None, None, None


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Batched left @ right with the shorter side as rows: 5 times faster there on a CPU."""
    if left.shape[1] <= right.shape[2]:
        return torch.bmm(left, right)
    return torch.bmm(right.transpose(1, 2), left.transpose(1, 2)).transpose(1, 2)


@dataclass(frozen=True)
class _Geometry:
    """The public constants of a two-dimensional convolution: (height, width) each."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def pointwise(self) -> bool:
        """A linear layer over the channels."""
        return self.kernel == self.stride == (1, 1) and self.padding == (0, 0)

    @property
    def shifts(self) -> bool:
        """Stride 1: the kernel's taps are shifts of the output's gradient."""
        reach = all(p < k for p, k in zip(self.padding, self.kernel, strict=True))
        return self.stride == self.dilation == (1, 1) and reach


def _geometry(leaf: nn.Conv2d) -> _Geometry:
    padding = leaf.padding
    if isinstance(padding, str):
        raise unfollowed()
    return _Geometry(leaf.kernel_size, leaf.stride, padding, leaf.dilation)


class _ConvRows(torch.autograd.Function):
    """y = conv2d(x, W) + b for x [rows, c_in, height, width]."""

    @staticmethod
    def forward(
        ctx: _Context,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        places: Places,
        into: PatientGradients,
        geometry: _Geometry,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.places, ctx.into, ctx.geometry = places, into, geometry
        return functional.conv2d(
            x, weight, bias, geometry.stride, geometry.padding, geometry.dilation
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        places, into, geometry = ctx.places, ctx.into, ctx.geometry
        if into.open:
            if places.weight is not None:
                into.add(places.weight, _conv_weight(dy, x, geometry))
            if places.bias is not None:
                into.add(places.bias, dy.sum(dim=(2, 3)))
        dx = _conv_input(dy, x, weight, geometry) if ctx.needs_input_grad[0] else None
        return dx, None, None, None, None, None


def _conv_input(dy: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
    """dx, as autograd has it; the rules for stride 1 are two to four times faster on a CPU."""
    if geometry.pointwise:
        return weight.flatten(1).t().matmul(dy.flatten(2)).reshape(x.shape)
    if geometry.shifts:
        margin = _margin(geometry)
        return functional.conv2d(dy, weight.flip(2, 3).transpose(0, 1), padding=margin)
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        dy, x, weight, None,
        geometry.stride, geometry.padding, geometry.dilation, False, [0, 0], 1,
        (True, False, False),
    )  # fmt: skip
    return found[0]


def _margin(geometry: _Geometry) -> tuple[int, int]:
    """Padding of the output's gradient with which the kernel reaches every input, for stride 1."""
    (k_h, k_w), (p_h, p_w) = geometry.kernel, geometry.padding
    return k_h - 1 - p_h, k_w - 1 - p_w


def _conv_weight(dy: Tensor, x: Tensor, geometry: _Geometry) -> Tensor:
    """dW of every row: [rows, c_out, c_in, k_h, k_w]."""
    if geometry.pointwise:
        rows = _product(dy.flatten(2), x.flatten(2).transpose(1, 2))
        return rows[..., None, None]
    taps, (height, width) = geometry.kernel[0] * geometry.kernel[1], dy.shape[2:]
    channels = dy.shape[1] if geometry.shifts else x.shape[1]
    step = max(1, _UNFOLDED // (channels * taps * height * width))
    rule = _conv_weight_by_shifts if geometry.shifts else _conv_weight_by_patches
    starts = range(0, len(dy), step)
    parts = [rule(dy[at : at + step], x[at : at + step], geometry) for at in starts]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _conv_weight_by_shifts(dy: Tensor, x: Tensor, geometry: _Geometry) -> Tensor:
    """dW[o, c, i, j] = sum_p x[c, p] dy[o, p - (i, j) + padding], for stride 1.

    Unfolds dy, which has the few channels of the adapter's rank, not x with its many.
    """
    (k_h, k_w), (rows, c_out) = geometry.kernel, dy.shape[:2]
    unfolded = functional.unfold(dy, (k_h, k_w), padding=_margin(geometry))  # [rows, o k_h k_w, p]
    products = _product(unfolded, x.flatten(2).transpose(1, 2))  # [rows, o k_h k_w, c]
    mirrored = products.reshape(rows, c_out, k_h, k_w, -1).flip(2, 3)
    return mirrored.permute(0, 1, 4, 2, 3)


def _conv_weight_by_patches(dy: Tensor, x: Tensor, geometry: _Geometry) -> Tensor:
    """dW[o, c, i, j] = sum_p dy[o, p] patch[c, i, j, p], for any stride."""
    patches = functional.unfold(
        x, geometry.kernel, geometry.dilation, geometry.padding, geometry.stride
    )
    products = _product(dy.flatten(2), patches.transpose(1, 2))
    return products.reshape(*dy.shape[:2], x.shape[1], *geometry.kernel)


_linear_rows: Callable[..., Tensor] = _LinearRows.apply
_conv_rows: Callable[..., Tensor] = _ConvRows.apply

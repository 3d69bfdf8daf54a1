"""Per-patient gradients of linear layers and convolutions, taken in the backward pass.

A leaf's forward is replaced by an autograd function that computes the same output. Its backward
contracts the output's gradient with the input, place by place (Goodfellow 2015, arXiv 1510.01799),
writes the result into the place's row of one flat buffer, and returns no gradient for the weight.
The shapes and the order of all this follow from the batch's shape alone. Nothing is scattered, so
there are no atomic additions whose order could vary.
The factors of LoRA are small, r (d_in + d_out) numbers a layer, so avoiding their gradients
("ghost" norms) would gain nothing, and would take a second backward pass.
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

_UNFOLDED: Final = 1 << 22  # most numbers in an unfolded convolution at once: 16 MiB

Leaf: TypeAlias = nn.Linear | nn.Conv2d
_Context: TypeAlias = Any  # autograd's own, on which a function may store anything


@dataclass(frozen=True)
class Places:
    """Where a leaf's weight and bias stand in the flat vector; None if frozen or missing."""

    weight: slice | None
    bias: slice | None


class GradientBuffer:
    """The flat buffer of one physical batch: float32 [places, P], filled while it is open."""

    def __init__(self, shape: tuple[int, int], parameters: int, device: torch.device) -> None:
        """`shape`: (places, rows of each)."""
        # Not zeros: the memory is first touched late in the backward pass, when the activations of
        # the later layers have been freed, and so does not raise the peak of a step.
        self._flat = torch.empty((shape[0], parameters), device=device)
        self.open = False
        self.places, self.rows_each = shape
        self._written: set[int] = set()  # first columns of the parts that were written

    def __len__(self) -> int:
        """Number of rows in the physical batch."""
        return self.places * self.rows_each

    def add(self, columns: slice, found: Tensor) -> None:
        """Add a parameter's gradients [places, ...] to those of the places."""
        mine = self._flat[:, columns].view(found.shape)
        # A layer that is called twice in one pass has the sum of both gradients. Only the first
        # one overwrites: the memory is not zeroed.
        again = columns.start in self._written
        self._written.add(columns.start)
        mine.add_(found) if again else mine.copy_(found)

    def by_place(self, rows: Tensor) -> Tensor:
        """Sum over each place's rows, one after the other: [rows, ...] to [places, ...]."""
        apart = rows.view(self.places, self.rows_each, *rows.shape[1:])
        # One row after the other: every place adds in the same order, which no kernel chooses.
        found = apart[:, 0]
        for j in range(1, self.rows_each):
            found = found + apart[:, j]
        return found

    def finished(self, columns: Iterable[slice]) -> Tensor:
        """The buffer, with zeros in those of `columns` (together: P) that no pass has reached."""
        for part in columns:
            # Unwritten columns hold what the memory held before, which may be another patient's.
            if part.start not in self._written:
                self._flat[:, part] = 0.0
        return self._flat


def replacement(leaf: Leaf, places: Places, into: GradientBuffer) -> Callable[[Tensor], Tensor]:
    """A forward for `leaf` with the same output, whose places' gradients go to `into`.

    It raises `AccountingError` where a pass with gradient does not have the batch's rows.
    """
    # Looked up once: a layer's attributes cost as much as its small matrix products.
    original, weight, bias, rows = leaf.forward, leaf.weight, leaf.bias, len(into)
    function: Callable[..., Tensor] = _linear_rows
    constants: tuple[object, ...] = (places, into)
    if isinstance(leaf, nn.Conv2d):
        function, constants = _conv_rows, (places, into, _geometry(leaf))

    def forward(input: Tensor) -> Tensor:
        # A pass of the loss that gets no gradient, or checkpointing's first: nothing to clip yet.
        if not torch.is_grad_enabled():
            return original(input)
        shape = input.shape
        # The first axis has to be the batch's rows, or a row could not be traced to its patient.
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
    """Casts the arguments of a matrix product as autocast would, whose own cast comes too late."""
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
        into: GradientBuffer,
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.places, ctx.into = places, into
        return functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        places, into = ctx.places, ctx.into
        if into.open:  # closed while a loss takes gradients of its own
            # dW = sum over rows and positions of dy x^T. Each place contracts its own rows only, so
            # the sum over the batch, in which patients would meet, is never formed.
            count, (d_out, d_in) = into.places, weight.shape
            flat_dy = dy.reshape(count, -1, d_out)  # a place's rows lie one after the other
            if places.weight is not None:
                flat_x = x.reshape(count, -1, d_in)
                into.add(places.weight, _product(flat_dy.transpose(1, 2), flat_x))
            if places.bias is not None:
                into.add(places.bias, flat_dy.sum(dim=1))
        # No gradient for weight and bias: autograd would sum it over all patients.
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
        into: GradientBuffer,
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
        if into.open:  # see _LinearRows.backward
            if places.weight is not None:
                into.add(places.weight, into.by_place(_conv_weight(dy, x, geometry)))
            if places.bias is not None:
                into.add(places.bias, into.by_place(dy.sum(dim=(2, 3))))
        dx = _conv_input(dy, x, weight, geometry) if ctx.needs_input_grad[0] else None
        return dx, None, None, None, None, None


def _conv_input(dy: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
    """dx, as in autograd; the rules for stride 1 are two to four times faster on a CPU."""
    if geometry.pointwise:  # dx[c, p] = sum_o W[o, c] dy[o, p]: no neighbours to gather
        return weight.flatten(1).t().matmul(dy.flatten(2)).reshape(x.shape)
    if geometry.shifts:
        # y[p] = sum_t W[t] x[p + t - padding], so dx[p] = sum_t W[t]^T dy[p - t + padding]: a
        # convolution with the mirrored kernel, input and output channels exchanged.
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
    # Rows at once, from shapes alone: how the work is cut may not depend on what rows hold.
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
    # Tap a of the unfolded dy holds dy[p + a - margin] = dy[p - (k - 1 - a) + padding], so it
    # belongs to the weight's tap k - 1 - a: mirrored.
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

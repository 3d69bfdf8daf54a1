"""A UNet's frozen layers in bfloat16, for processors that multiply it natively.

Matrix products and convolutions of the frozen base take bfloat16 (a mantissa of 8 bits) and are
added up in float32; adapter, residuals, norms and softmax stay float32, as does all that follows.
The gradient of a step is what it was, up to rounding (docs/adr/0070).
"""

# Why: docs/adr/0070-short-slots.md

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from model.adapters import Unet

_HALF: Final = torch.bfloat16
_LAST: Final = torch.channels_last  # of a convolution's tensors: half the time of the other layout
# A layer with fewer channels costs next to nothing, and its rounding would count most: behind the
# last convolution stands the difference of prediction and noise, which is small at late timesteps.
_FEWEST_CHANNELS: Final = 16
_ADAPTERS: Final = frozenset({"lora_A", "lora_B"})  # peft's names of the two halves
_Context: TypeAlias = Any  # autograd's own, on which a function may store anything
_Forward: TypeAlias = Callable[..., Any]
_FullAttention: Any = AttnProcessor2_0  # diffusers is untyped


class MixedPrecision:
    """Bfloat16 copies of the frozen weights of `unet`, and the layers that may use them.

    Takes half the memory of those weights again. A layer is left as it is where it is trained,
    belongs to an adapter, has few channels, or takes one vector an image (the time embedding), and
    inside autocast.
    """

    def __init__(self, unet: Unet) -> None:
        self._forwards = [
            (module, forward)
            for name, module in unet.named_modules()
            if _ADAPTERS.isdisjoint(name.split(".")) and (forward := _forward_of(module))
        ]
        self._attentions = [m for m in unet.modules() if _is_plain_attention(m)]

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, these layers compute in bfloat16; afterwards the module is as it was."""
        # A layer with a forward of its own already belongs to somebody else.
        replaced = [(m, f) for m, f in self._forwards if "forward" not in vars(m)]
        before = [attention.processor for attention in self._attentions]
        try:
            for module, forward in replaced:
                vars(module)["forward"] = forward
            for attention in self._attentions:
                attention.processor = _HalfAttention()
            yield
        finally:
            for module, _ in replaced:
                vars(module).pop("forward", None)
            for attention, processor in zip(self._attentions, before, strict=True):
                attention.processor = processor


def _forward_of(module: nn.Module) -> _Forward | None:
    """A forward in bfloat16 for a layer that is worth it, else None."""
    # By exact type: a subclass may compute something else.
    if type(module) is nn.Linear and _is_frozen(module) and not _is_cheap(module):
        weight, bias = _halves(module)
        return _where_it_fits(module.forward, lambda x: _linear_half(x, weight, bias))
    if type(module) is nn.Conv2d and _is_frozen(module):
        return _conv_forward(module)
    return None


def _conv_forward(module: nn.Conv2d) -> _Forward | None:
    original = module.forward
    if _is_cheap(module):
        # In full, but its output in the layout of those that follow, and so of all residuals.
        return _where_it_fits(original, lambda x: original(x.contiguous(memory_format=_LAST)))
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return None
    weight, bias = _halves(module)
    kernel = weight.contiguous(memory_format=_LAST)
    geometry = (module.stride, module.padding, module.dilation, module.groups)
    return _where_it_fits(original, lambda x: _conv_half(x, kernel, bias, geometry))


def _is_frozen(module: nn.Module) -> bool:
    parameters = tuple(module.parameters(recurse=False))
    return all(p.dtype == torch.float32 and not p.requires_grad for p in parameters)


def _is_cheap(module: nn.Linear | nn.Conv2d) -> bool:
    return min(module.weight.shape[:2]) < _FEWEST_CHANNELS


def _halves(module: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    bias = module.bias
    return module.weight.detach().to(_HALF), None if bias is None else bias.detach().to(_HALF)


def _where_it_fits(original: _Forward, other: Callable[[Tensor], Tensor]) -> _Forward:
    def forward(input: Tensor) -> Any:  # noqa: ANN401 - as the layer's own
        fits = input.dtype == torch.float32 and input.dim() > 2  # one vector an image costs nothing
        if not fits or torch.is_autocast_enabled(input.device.type):
            return original(input)
        return other(input)

    return forward


class _LinearHalf(torch.autograd.Function):
    """y = x W^T + b for x [rows, positions, d_in], float32."""

    @staticmethod
    def forward(ctx: _Context, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight  # frozen: no version that could have changed
        return functional.linear(x.to(_HALF), weight, bias).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        return dy.to(_HALF).matmul(ctx.weight).float(), None, None


class _ConvHalf(torch.autograd.Function):
    """y = conv2d(x, W) + b for x [rows, c_in, height, width], float32."""

    @staticmethod
    def forward(
        ctx: _Context, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...]
    ) -> Tensor:
        ctx.weight, ctx.geometry, ctx.shape = weight, geometry, x.shape
        return functional.conv2d(_half_image(x), weight, bias, *geometry).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        stride, padding, dilation, groups = ctx.geometry
        dy = _half_image(dy)
        like = torch.empty(ctx.shape, dtype=_HALF, device=dy.device, memory_format=_LAST)
        found = torch.ops.aten.convolution_backward(
            dy, like, ctx.weight, None,
            stride, padding, dilation, False, [0, 0], groups,
            (True, False, False),
        )  # fmt: skip
        return found[0].float(), None, None, None


def _half_image(x: Tensor) -> Tensor:
    # First the numbers, then their order: both at once is four times slower.
    return x.to(_HALF).contiguous(memory_format=_LAST)


class _AttentionHalf(torch.autograd.Function):
    """softmax(q k^T / sqrt(d)) v for float32 q, k, v [rows * heads, length, d].

    Scores and softmax in float32: an error of a score is a factor of its weight. The products
    behind them, and those of the gradients, in bfloat16.
    """

    @staticmethod
    def forward(ctx: _Context, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.scale = q.shape[-1] ** -0.5
        none = q.new_empty(1, 1, 1)
        scores = torch.baddbmm(none, q, k.transpose(1, 2), beta=0, alpha=ctx.scale)
        weights, v = scores.softmax(dim=-1).to(_HALF), v.to(_HALF)
        ctx.save_for_backward(q.to(_HALF), k.to(_HALF), v, weights)
        return torch.bmm(weights, v).float()

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, dy: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        dy = dy.to(_HALF)
        dv = torch.bmm(weights.transpose(1, 2), dy)
        dweights = torch.bmm(dy, v.transpose(1, 2))
        dscores = torch._softmax_backward_data(dweights, weights, -1, _HALF)
        dq, dk = torch.bmm(dscores, k), torch.bmm(dscores.transpose(1, 2), q)
        return dq.float() * ctx.scale, dk.float() * ctx.scale, dv.float()


class _HalfAttention:
    """What `AttnProcessor2_0` does in an attention without extras, see `_is_plain_attention`."""

    _otherwise: Any = _FullAttention()

    def __call__(
        self,
        attention: Any,  # noqa: ANN401 - diffusers is untyped
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        **settings: Any,  # noqa: ANN401 - as the processor's own
    ) -> Tensor:
        x = hidden_states
        plain = x.dim() == 3 and x.dtype == torch.float32 and attention_mask is None
        if not plain or settings or torch.is_autocast_enabled(x.device.type):
            found: Tensor = self._otherwise(
                attention, x, encoder_hidden_states, attention_mask, temb, **settings
            )
            return found
        read = x if encoder_hidden_states is None else encoder_hidden_states
        heads = attention.heads
        q, k, v = (
            _split(values, heads)
            for values in (attention.to_q(x), attention.to_k(read), attention.to_v(read))
        )
        mixed = _attention_half(q, k, v).view(len(x), heads, x.shape[1], -1)
        out: Tensor = attention.to_out[0](mixed.transpose(1, 2).flatten(2))
        return out


def _split(values: Tensor, heads: int) -> Tensor:
    """[rows, length, heads * d] to [rows * heads, length, d]."""
    rows, length, width = values.shape
    return values.view(rows, length, heads, width // heads).transpose(1, 2).flatten(0, 1)


def _is_plain_attention(module: Any) -> bool:  # noqa: ANN401 - diffusers is untyped
    """Whether it is queries, keys, values and an output, and nothing else."""
    if type(module) is not Attention or type(module.processor) is not _FullAttention:
        return False
    extras: tuple[Any, ...] = (
        module.spatial_norm,
        module.group_norm,
        module.norm_cross,
        module.norm_q,
        module.norm_k,
        module.residual_connection,
        module.rescale_output_factor != 1,
        module.to_out[1].p != 0 and module.training,
    )
    return not any(extras)


_linear_half: Callable[..., Tensor] = _LinearHalf.apply
_conv_half: Callable[..., Tensor] = _ConvHalf.apply
_attention_half: Callable[..., Tensor] = _AttentionHalf.apply

"""A block's features, caught in the forward pass that is made anyway: there is no second one."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from model.adapters import Unet
from privacy.errors import ModelError


@contextmanager
def caught(unet: Unet, block: str) -> Iterator[list[Tensor]]:
    """A list that gets the features [n, C, h, w] of `block` in every forward pass inside.

    A block that ends in an up- or downsampler is caught before it, at its own resolution.
    Raises `ModelError` if the UNet has no such block.
    """
    found: list[Tensor] = []
    module = find_block(unet, block)
    sampler = _sampler(module)
    # Behind the sampler the features have another resolution, and a downsampler has lost places;
    # its input is what the block computed.
    if sampler is None:
        handle = module.register_forward_hook(lambda _, __, output: found.append(_main(output)))
    else:
        handle = sampler.register_forward_pre_hook(lambda _, inputs: found.append(_main(inputs)))
    try:
        yield found
    finally:
        handle.remove()


def find_block(unet: Unet, block: str) -> nn.Module:
    """The part of the UNet called `block`; raises `ModelError` that lists similar names."""
    names = block_names(unet)
    if block not in names:
        near = difflib.get_close_matches(block, names, n=4, cutoff=0.3)
        raise ModelError(
            f"The UNet has no block {block!r}.",
            f"Did you mean {', '.join(near)}?" if near else f"It has {', '.join(names)}.",
        )
    module: nn.Module = unet.get_submodule(block)
    return module


def block_names(unet: Unet) -> list[str]:
    """Blocks of the UNet, and the residual and attention layers in them, in their order."""
    names = []
    tops = [f"{side}.{i}" for side in ("down_blocks", "up_blocks") for i in _range(unet, side)]
    for top in [*tops, *(["mid_block"] if getattr(unet, "mid_block", None) is not None else [])]:
        names.append(top)
        for part in ("resnets", "attentions"):
            names += [f"{top}.{part}.{i}" for i in _range(unet.get_submodule(top), part)]
    return sorted(names)


def pooled(features: Tensor, tokens: int) -> Tensor:
    """Features [n, C, h, w] averaged over areas to a square grid of `tokens` places.

    Raises `ModelError` if that is not a square grid, or a finer one than the features'.
    """
    side = math.isqrt(tokens)
    if side * side != tokens or side > min(features.shape[2:]):
        raise ModelError(
            f"The reference has {tokens} places, the block {tuple(features.shape[2:])}.",
            "Make the reference for this base and this block.",
        )
    if features.shape[2:] == (side, side):
        return features
    return _averaged(_averaged(features, side, 2), side, 3)


def _averaged(features: Tensor, parts: int, dim: int) -> Tensor:
    """Means over `parts` pieces of `dim`, cut as `adaptive_avg_pool2d` cuts.

    That function's gradient has no deterministic kernel on a GPU; a sum over a slice has one.
    """
    size = features.shape[dim]
    # floor(i s / p) to ceil((i + 1) s / p): pieces overlap by one place where p does not divide s.
    cuts = [(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]
    pieces = [features.narrow(dim, low, high - low).mean(dim, keepdim=True) for low, high in cuts]
    return torch.cat(pieces, dim)


@torch.no_grad()
def feature_side(unet: Unet, block: str) -> int:
    """Side of the square grid of `block` for the images that the UNet was made for.

    One forward pass of an empty row; raises `ModelError` for another block, or another shape.
    """
    height, width = _of_an_empty_row(unet, block).shape[2:]
    if height != width:
        raise ModelError(
            f"The features of {block} are {height} by {width}.", "Use a base for square images."
        )
    return int(height)


@torch.enable_grad()
def check_adapted(unet: Unet, block: str) -> None:
    """Raise `ModelError` if no trainable layer comes before the features of `block`."""
    if not _of_an_empty_row(unet, block).requires_grad:
        raise ModelError(
            f"No layer of the adapter comes before {block}: its features cannot be taught.",
            "Name a later block as stage_two.structure.block, or adapt earlier layers too.",
        )


def _of_an_empty_row(unet: Unet, block: str) -> Tensor:
    """The block's features [1, C, h, w] of a row of zeros."""
    config, like = unet.config, {"device": unet.device, "dtype": unet.dtype}
    latents = torch.zeros(1, config.in_channels, config.sample_size, config.sample_size, **like)
    text = torch.zeros(1, 1, config.cross_attention_dim, **like)
    with caught(unet, block) as found:
        unet(latents, torch.zeros(1, dtype=torch.int64, device=unet.device), text)
    return found[0]


def _sampler(module: nn.Module) -> nn.Module | None:
    """The layer by which a block changes its resolution at its end."""
    for name in ("upsamplers", "downsamplers"):
        samplers: Any = getattr(module, name, None)
        if samplers is not None and len(samplers) > 0:
            first: nn.Module = samplers[0]
            return first
    return None


def _main(output: Any) -> Tensor:  # noqa: ANN401 - a tensor, or it first and others after it
    features = output if isinstance(output, Tensor) else output[0]
    if not isinstance(features, Tensor) or features.ndim != 4:
        raise ModelError("The block's features are not a grid.", "Name another block of the UNet.")
    return features


def _range(module: Any, part: str) -> range:  # noqa: ANN401 - diffusers is untyped
    parts = getattr(module, part, None)
    return range(0 if parts is None else len(parts))

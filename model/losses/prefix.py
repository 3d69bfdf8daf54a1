"""What several passes over one batch have in common is computed once.

The passes of one loss share z_t and t, and differ in the caption, or in whether the adapter is on.
So they agree, bit for bit, up to the first layer that has an adapter or reads the caption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import takewhile
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from model.adapters import Unet


def computed_once(unet: Unet) -> AbstractContextManager[None]:
    """Inside, those first layers are computed in the first pass and replayed in the others.

    Every pass inside must be of the same noised rows and timesteps. Nothing in those layers gets
    a gradient, so nothing is lost when the first pass is one without.
    """
    return replayed(_first_layers(unet))


@contextmanager
def replayed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Inside, each of `modules` is computed once; its later calls return what the first one did.

    Whoever enters it has to know that their inputs stay the same.
    """
    # A layer with a `forward` of its own already belongs to somebody else, such as an outer
    # `computed_once`, who will also restore it.
    replaced = [module for module in modules if "forward" not in vars(module)]
    try:
        for module in replaced:
            # An instance's attribute comes before its class's method, and removing it restores that
            # method exactly. Hooks still run in every pass, so `caught` works on these layers too.
            vars(module)["forward"] = _remembering(module.forward)
        yield
    finally:
        for module in replaced:
            vars(module).pop("forward", None)


def _remembering(original: Callable[..., Any]) -> Callable[..., Any]:
    outputs: list[Any] = []

    # Later arguments are not compared: same rows, same timesteps and no adapter before this layer
    # mean the same input, and a comparison on a GPU would make the host wait.
    def forward(*arguments: Any, **settings: Any) -> Any:  # noqa: ANN401 - as the layer's own
        if not outputs:
            outputs.append(original(*arguments, **settings))
        return outputs[0]

    return forward


def _first_layers(unet: Unet) -> list[nn.Module]:
    """From the input on: the layers that depend on z_t and t alone and have no adapter."""
    if getattr(unet.config, "addition_embed_type", None) is not None:
        return []  # the caption is in the time embedding, and so everywhere
    # Not all plain layers, only those before the first other one: behind an adapter, inputs differ.
    return list(takewhile(has_no_adapter, _in_order(unet)))


def _in_order(unet: Unet) -> Iterator[nn.Module]:
    """From the input to the first layer that reads the caption, in the largest possible pieces."""
    yield unet.time_embedding  # first: every later layer sees it
    yield unet.conv_in
    for block in unet.down_blocks:
        if not getattr(block, "has_cross_attention", False) and has_no_adapter(block):
            yield block  # whole: its resnets, and its downsampler, see z_t and t alone
            continue
        yield block.resnets[0]  # then comes an attention, which may read the caption
        attentions = getattr(block, "attentions", None)
        if attentions:
            yield from _before_the_caption(attentions[0])
        return


def _before_the_caption(attention: Any) -> Iterator[nn.Module]:  # noqa: ANN401 - untyped
    """Layers of a transformer up to its first self-attention."""
    blocks = getattr(attention, "transformer_blocks", None)
    if blocks:
        yield from (attention.norm, attention.proj_in, blocks[0].norm1)
        # A transformer block is self-attention, then cross-attention: the first of them is still
        # free of the caption, except where both are cross-attention.
        if not blocks[0].only_cross_attention:
            yield blocks[0].attn1


def has_no_adapter(module: nn.Module) -> bool:
    """No adapter inside, and nothing else that is trained."""
    return not any(
        isinstance(part, BaseTunerLayer)
        or any(parameter.requires_grad for parameter in part.parameters(recurse=False))
        for part in module.modules()
    )

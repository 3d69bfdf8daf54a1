"""What several adapters have in common in their passes over the same rows is computed once.

Rows differ in nothing, captions included, so passes agree, bit for bit, up to the first layer with
an adapter. (`model.losses.prefix` is for passes whose captions differ: there it ends sooner.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from model.adapters import Unet


@contextmanager
def same_rows(unet: Unet) -> Iterator[None]:
    """Inside, where all passes are of the same rows, what comes before the adapter is replayed."""
    replaced = list(takewhile(_is_plain, _in_order(unet)))
    try:
        for module in replaced:
            # An instance's attribute comes before its class's method; removing it restores that.
            vars(module)["forward"] = _remembering(module.forward)
        yield
    finally:
        for module in replaced:
            vars(module).pop("forward", None)


def _remembering(original: Callable[..., Any]) -> Callable[..., Any]:
    outputs: list[Any] = []

    def forward(*arguments: Any, **settings: Any) -> Any:  # noqa: ANN401 - as the layer's own
        if not outputs:
            outputs.append(original(*arguments, **settings))
        return outputs[0]

    return forward


def _in_order(unet: Unet) -> Iterator[nn.Module]:
    """From the input on, in pieces as large as may be: what is not whole comes in parts."""
    yield unet.time_embedding
    yield unet.conv_in
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        if _is_plain(block):
            yield block
            continue
        # The first of a middle block has no attention of its own, and runs before both.
        resnets, attentions = list(block.resnets), list(getattr(block, "attentions", ()))
        yield from resnets[: len(resnets) - len(attentions)]
        for resnet, attention in zip(
            resnets[len(resnets) - len(attentions) :], attentions, strict=True
        ):
            yield from (attention, resnet) if block is unet.mid_block else (resnet, attention)
        return


def _is_plain(module: nn.Module) -> bool:
    """No adapter inside."""
    return not any(isinstance(part, BaseTunerLayer) for part in module.modules())

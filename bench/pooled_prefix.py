"""What several adapters have in common in their passes over the same rows is computed once.

Rows differ in nothing, captions included, so passes agree, bit for bit, up to the first layer with
an adapter. (`model.losses.prefix` is for passes whose captions differ: there it ends sooner.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import takewhile

from torch import nn

from model.adapters import Unet
from model.losses.prefix import has_no_adapter, replayed


def same_rows(unet: Unet) -> AbstractContextManager[None]:
    """Inside, where all passes are of the same rows, what comes before the adapter is replayed."""
    return replayed(takewhile(has_no_adapter, _in_order(unet)))


def _in_order(unet: Unet) -> Iterator[nn.Module]:
    """From the input on, in pieces as large as may be: what is not whole comes in parts."""
    yield unet.time_embedding
    yield unet.conv_in
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        if has_no_adapter(block):
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

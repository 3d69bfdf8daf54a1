"""The choice of a clipping engine for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.lora_leaves import check_leaf
from privacy.errors import ModelError

if TYPE_CHECKING:
    from privacy.dpsgd.opacus_engine import OpacusEngine

_FACTORS = frozenset({"lora_A", "lora_B"})  # peft's names of the two halves of an adapter


def choose_engine(
    module: nn.Module, parameters: Sequence[nn.Parameter]
) -> LoraEngine | OpacusEngine:
    """`LoraEngine` where everything trainable is LoRA of layers it knows; else `OpacusEngine`.

    opacus is imported only in the second case, because that takes seconds. Raises `ModelError`
    where neither can clip the model.
    """
    if _is_lora(module):
        return LoraEngine(module, parameters)
    from privacy.dpsgd.opacus_engine import OpacusEngine

    return OpacusEngine(module, parameters)


def _is_lora(module: nn.Module) -> bool:
    for name, leaf in module.named_modules():
        if any(p.requires_grad for p in leaf.parameters(recurse=False)):
            if _FACTORS.isdisjoint(name.split(".")):
                return False
            try:
                check_leaf(leaf)
            except ModelError:
                return False
    return True

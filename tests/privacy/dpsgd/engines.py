"""The engines that the contract of `ClippingEngine` holds for."""

from __future__ import annotations

from collections.abc import Callable

from privacy.dpsgd.engine import ClippingEngine
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.opacus_engine import OpacusEngine
from tests.privacy.dpsgd.worlds import World

Make = Callable[[World], ClippingEngine]


def make_opacus(world: World) -> ClippingEngine:
    return OpacusEngine(world.module, world.parameters)


def make_lora(world: World) -> ClippingEngine:
    return LoraEngine(world.module, world.parameters)


ENGINES = {"argvalues": [make_opacus, make_lora], "ids": ["opacus", "lora"]}

"""This project's engines, by the names that the benchmarks give them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.opacus_engine import OpacusEngine

ENGINE_CLASSES: Mapping[str, type[LoraEngine] | type[OpacusEngine]] = MappingProxyType(
    {"lora": LoraEngine, "opacus": OpacusEngine}
)

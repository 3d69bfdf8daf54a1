"""An adapter as peft keeps it: the same numbers under its own names, and its configuration.

`peft.PeftModel.from_pretrained(unet, FOLDER)` reads both; the tests do.
"""

# Why: docs/adr/0053-champions-and-exports.md

from __future__ import annotations

import json
from typing import Final

import numpy as np
from safetensors.numpy import save

from model.adapter_file import SavedAdapter
from model.layout import frozen_values

PEFT_WEIGHTS: Final = "adapter_model.safetensors"
PEFT_CONFIG: Final = "adapter_config.json"
_PREFIX: Final = "base_model.model."  # of every module in a PeftModel
# One entry only: safetensors writes several in any order.
_FORMAT: Final = {"format": "pt"}


def as_peft(saved: SavedAdapter, base: str) -> dict[str, bytes]:
    """Weights and configuration by file name, the same bytes every time; `base` is its name."""
    found = {entry.name: part for entry, part in saved.layout.split(saved.vector)}
    values = found | frozen_values(saved.layout)
    tensors = {f"{_PREFIX}{name}": np.ascontiguousarray(values[name]) for name in sorted(values)}
    config = {
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": saved.adapter.alpha,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": saved.adapter.rank,
        "target_modules": sorted(saved.adapter.targets),
        "task_type": None,
        "use_dora": False,
        "use_rslora": False,
    }
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    return {PEFT_WEIGHTS: save(tensors, _FORMAT), PEFT_CONFIG: text.encode()}

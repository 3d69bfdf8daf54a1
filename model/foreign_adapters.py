"""What somebody else's file is, by the names in it: so that a refusal can say it and the way out.

Nothing is converted: an adapter of another tool has no study, and no epsilon that vouches for it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

_KOHYA: Final = "a LoRA of kohya's tools (sd-scripts), as most web pages offer it"
_PEFT: Final = "a LoRA as peft saves it (adapter_model.safetensors)"
_OWN_WAY: Final = (
    "It cannot be converted: no study vouches for it. Use the adapter that a run released "
    "(MLflow keeps it with its SHA-256)."
)
_BESIDE: Final = (
    "In a folder that craftsfl exported, the same adapter lies beside it with its metadata: "
    f"pytorch_lora_weights.safetensors. Otherwise: {_OWN_WAY[0].lower()}{_OWN_WAY[1:]}"
)
# The first that fits, by the names of tensors.
_KINDS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"dora_scale|lora_magnitude_vector"), "a DoRA adapter"),
    (
        re.compile(r"\.(?:hada_w[12]|lokr_w[12]|oft_|boft_|ia3_|on_input)|\.lora_mid\."),
        "a LyCORIS adapter (LoHa, LoKr, OFT or IA3)",
    ),
    (re.compile(r"vera_lambda_"), "a VeRA adapter"),
    (re.compile(r"^(?:ip_adapter|image_proj)\."), "an IP-Adapter"),
    (
        re.compile(r"^lora_(?:transformer|prior_unet|effnet)_"),
        "a LoRA of a transformer (SD 3, Flux), not of a UNet",
    ),
    (
        re.compile(r"^diffusion_model\..*lora"),
        "a LoRA as ComfyUI or the makers of a base name it",
    ),
    (re.compile(r"^(?:lora_(?:unet|te[12]?)_|lycoris_)"), _KOHYA),
    (
        re.compile(r"^base_model\.model\..*\.(?:self_attn|layers?|h)\..*lora"),
        "a LoRA of a language model, as peft saves it",
    ),
    (re.compile(r"^base_model\.model\."), _PEFT),
    (
        re.compile(r"\.processor\.|_lora\.(?:up|down)\."),
        "a LoRA of an old version of diffusers (attention processors)",
    ),
    (re.compile(r"^transformer\..*lora"), "a LoRA of a transformer (SD 3, Flux), not of a UNet"),
    (re.compile(r"^(?:text_encoder|text_model).*lora"), "a LoRA of a text encoder"),
    (
        re.compile(r"^(?:model\.diffusion_model|first_stage_model|cond_stage_model)\."),
        "a whole checkpoint of Stable Diffusion",
    ),
    (re.compile(r"^(?:emb_params|clip_[lg]|string_to_param)"), "a textual inversion"),
    (re.compile(r"^(?:controlnet_|control_model\.|input_hint_block)"), "a ControlNet"),
    (re.compile(r"lora_A|lora_B"), "a LoRA without the metadata that craftsfl writes"),
    (re.compile(r"^(?:down_blocks|conv_in|encoder\.)"), "a whole model"),
)
_STARTS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "a PyTorch file (.bin, .pt, .ckpt): a pickle, which could start a program"),
    (b"\x80", "a pickle, which could start a program"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a git-lfs pointer; fetch the file itself (git lfs pull)"),
    (b"<", "a web page, not the file that it offers"),
    (b"{", "a JSON file, such as adapter_config.json, without the tensors"),
)
_WIDTHS: Final = {"F16": "half precision", "BF16": "half precision", "F64": "double precision"}


def foreign_kind(names: Collection[str], header: Mapping[str, str]) -> tuple[str, str]:
    """What a safetensors file without our metadata is, and the way out."""
    for pattern, kind in _KINDS:
        if any(pattern.search(name) for name in names):
            return kind, _BESIDE if kind == _PEFT else _OWN_WAY
    if any(key.startswith("ss_") for key in header):
        return _KOHYA, _OWN_WAY
    return "a safetensors file of another kind", _OWN_WAY


def added_kind(names: Collection[str]) -> str:
    """What tensors beyond our own make of an adapter, as a clause; "" where they have no name."""
    if any(re.search(r"dora_scale|lora_magnitude_vector", name) for name in names):
        return "; with them it is a DoRA adapter"
    return ""


def unopened_kind(path: Path) -> str:
    """What a file is that is no safetensors file, by its first bytes; "" where that is unknown."""
    try:
        if path.is_dir():
            return "a folder: name the .safetensors file in it"
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        return f"a file that cannot be read: {error.strerror}"
    if not start:
        return "an empty file"
    if start[8:9] == b"{" != start[:1]:
        return "a damaged or cut safetensors file: copy it again"
    return next((kind for begins, kind in _STARTS if start.lstrip().startswith(begins)), "")


def precision_words(kind: str) -> str:
    """How people call a safetensors type that an adapter must not have; "" for rare ones."""
    return "eight bits" if kind.startswith(("F8", "I8", "U8")) else _WIDTHS.get(kind, "")

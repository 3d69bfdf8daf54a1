"""What somebody else's file is, by the names in it: so that a refusal can say it and the way out.

Nothing is converted: an adapter of another tool has no study, and no epsilon that vouches for it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from model.file_kinds import file_kind, first_bytes

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
    (
        re.compile(r"^(?:lora_|lycoris_).*\.(?:diff|diff_b|w_norm|b_norm|[ab][12]\.weight)$"),
        "a LyCORIS adapter (full, norm or GLoRA)",
    ),
    (re.compile(r"vera_lambda_"), "a VeRA adapter"),
    (re.compile(r"\.lora_E\b"), "an AdaLoRA adapter"),
    (re.compile(r"fourierft_"), "a FourierFT adapter"),
    (re.compile(r"^prompt_embeddings"), "a learned prompt or prefix of peft"),
    (re.compile(r"motion_modules\."), "a motion module (AnimateDiff)"),
    (re.compile(r"^(?:ip_adapter|image_proj)\."), "an IP-Adapter"),
    (
        re.compile(
            r"^lora_(?:transformer|prior_unet|effnet)_|^lora_unet_(?:double|single|joint)_blocks"
            r"|^(?:double|single)_blocks\..*lora"
        ),
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
    (re.compile(r"^(?:text_encoder|text_model).*lora"), "a LoRA of a text encoder"),
    (re.compile(r"^base_model\.model\..*lora_(?:embedding_)?[AB]\b"), _PEFT),
    (re.compile(r"^base_model\.model\."), "an adapter of peft's that is no LoRA"),
    (
        re.compile(r"\.processor\.|_lora\.(?:up|down)\.|\.lora_linear_layer\."),
        "a LoRA of an old version of diffusers (attention processors)",
    ),
    (re.compile(r"^transformer\..*lora"), "a LoRA of a transformer (SD 3, Flux), not of a UNet"),
    (
        re.compile(r"^(?:model\.diffusion_model\.)?(?:double|single|joint)_blocks\."),
        "a whole checkpoint of Flux or SD 3",
    ),
    (
        re.compile(
            r"^(?:model\.diffusion_model|first_stage_model|cond_stage_model|conditioner\.embedders)\."
        ),
        "a whole checkpoint of Stable Diffusion",
    ),
    (re.compile(r"^(?:emb_params|clip_[lg]|string_to_param|<.+>)$"), "a textual inversion"),
    (re.compile(r"^(?:320|640|768|1024|1280)\.[01]\.linear"), "a hypernetwork"),
    (
        re.compile(r"^(?:controlnet_|lllite_|control_model\.|input_hint_block|lora_controlnet)"),
        "a ControlNet",
    ),
    (re.compile(r"^adapter\.body\."), "a T2I-Adapter"),
    (re.compile(r"^bundle_emb\."), "textual inversions, as OneTrainer bundles them with a LoRA"),
    (re.compile(r"^(?:post_)?quant_conv\."), "a VAE, without the model around it"),
    (re.compile(r"lora_A|lora_B"), "a LoRA without the metadata that craftsfl writes"),
    (re.compile(r"[._]lora[._](?:down|up)\b"), "a LoRA in another tool's form"),
    (re.compile(r"\bexp_avg\b"), "the state of an optimiser"),
    (re.compile(r"^(?:model\.layers|bert\.|h\.\d|transformer\.h)\b"), "a whole language model"),
    (
        re.compile(r"^(?:text_model|vision_model|visual|cls_token|patch_embed|shared)\b"),
        "a whole encoder of pictures or texts",
    ),
    (
        re.compile(
            r"^(?:down_blocks|conv_in|encoder|input_blocks|layer1|blocks|backbone|diam_mean)\b"
            r"|^model\.\d"
        ),
        "a whole model",
    ),
)
_STARTS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "a PyTorch file (.bin, .pt, .ckpt): a pickle, which could start a program"),
    (b"<", "a web page, not the file that it offers"),
    (b"{", "a JSON file, such as adapter_config.json, without the tensors"),
)
_NOTHING: Final = "no safetensors file, or one whose beginning is damaged: copy it again"
_WIDTHS: Final = {"F16": "half precision", "BF16": "half precision", "F64": "double precision"}


def foreign_kind(names: Collection[str], header: Mapping[str, str]) -> tuple[str, str]:
    """What a safetensors file without our metadata is, and the way out."""
    for pattern, kind in _KINDS:
        if any(pattern.search(name) for name in names):
            return kind, _BESIDE if kind == _PEFT else _OWN_WAY
    if any(key.startswith("ss_") for key in header):
        return _KOHYA, _OWN_WAY
    architecture = header.get("modelspec.architecture", "")
    if architecture.endswith("/lora"):
        return "a LoRA in another tool's form", _OWN_WAY
    if "textual-inversion" in architecture or [name.count(".") for name in names] == [0]:
        return "a textual inversion", _OWN_WAY
    if not names:
        return "a safetensors file without a single tensor", _OWN_WAY
    return "a safetensors file of another kind", _OWN_WAY


def added_kind(names: Collection[str]) -> str:
    """What tensors beyond our own make of an adapter, as a clause; "" where they have no name."""
    if any(re.search(r"dora_scale|lora_magnitude_vector", name) for name in names):
        return "; with them it is a DoRA adapter"
    if any(re.search(r"^(?:text_encoder|text_model|lora_te)", name) for name in names):
        return "; with them it changes the text encoder too"
    return ""


def unopened_kind(path: Path) -> str:
    """What a file is that is no safetensors file, by its first bytes."""
    try:
        if path.is_dir():
            return "a folder: name the .safetensors file in it"
        start = first_bytes(path)
    except OSError as error:
        return f"a file that cannot be read: {error.strerror}"
    if start[8:9] in (b"{", b"[") and start[:1] not in (b"{", b"["):
        return "a damaged or cut safetensors file: copy it again"
    shown = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    found = next((kind for begins, kind in _STARTS if shown.startswith(begins)), "")
    return found or file_kind(start) or _NOTHING


def precision_words(kind: str) -> str:
    """How people call a safetensors type that an adapter must not have; "" for rare ones."""
    return "eight bits" if kind.startswith(("F8", "I8", "U8")) else _WIDTHS.get(kind, "")

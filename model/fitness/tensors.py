"""A base by its tensors: those that its settings call for, by name and shape. No value is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPTextConfig, CLIPTextModel

from model.fitness.fault import BaseFault
from model.fitness.weights import Shapes
from privacy.visible import visible

_CURE: Final = "Settings and weights are of different models: get the folder again."
# Names that diffusers and transformers still read (an autoencoder's attention of 2022, CLIP's).
_OLD: Final = (
    (re.compile(r"\.query\."), ".to_q."),
    (re.compile(r"\.key\."), ".to_k."),
    (re.compile(r"\.value\."), ".to_v."),
    (re.compile(r"\.proj_attn\."), ".to_out.0."),
    (re.compile(r"^text_model\."), ""),
)
# What building a model from odd settings is known to raise, or may raise.
_UNBUILDABLE: Final = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, OSError),
    *(RuntimeError, TypeError, ValueError, StrictDataclassError),
)
_Kind = Any  # a model's class: diffusers and transformers have no types


def of_tensors(
    folder: Path, settings: Mapping[str, Mapping[str, object]], found: Mapping[str, Shapes]
) -> Iterator[BaseFault]:
    """For each part: tensors that are missing from its files, or have another shape.

    settings: of "unet", "vae" and "text_encoder". Whatever else the files hold is not loaded.
    """
    tiny = settings["vae"].get("_class_name") == "AutoencoderTiny"
    vae: _Kind = AutoencoderTiny if tiny else AutoencoderKL
    unet: _Kind = UNet2DConditionModel
    makers: dict[str, Callable[[], _Kind]] = {
        "unet": lambda: unet.from_config(dict(settings["unet"])),
        "vae": lambda: vae.from_config(dict(settings["vae"])),
        "text_encoder": lambda: CLIPTextModel(_text_config(folder)),
    }
    for part, make in makers.items():
        try:
            with torch.device("meta"):
                wanted = {k: tuple(v.shape) for k, v in make().state_dict().items()}
        except _UNBUILDABLE as error:
            yield BaseFault(
                f"{part}/config.json describes no model ({type(error).__name__})", _CURE
            )
            continue
        yield from _compared(part, _renamed(wanted), _renamed(found[part]))


def _text_config(folder: Path) -> _Kind:
    kind: _Kind = CLIPTextConfig
    return kind.from_pretrained(folder / "text_encoder", local_files_only=True)


def _compared(part: str, wanted: Shapes, found: Shapes) -> Iterator[BaseFault]:
    if missing := sorted(wanted.keys() - found.keys()):
        name = visible(missing[0], most=100)
        yield BaseFault(f"{part} lacks {len(missing)} of its tensors ({name})", _CURE)
    odd = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
    if odd:
        name = visible(odd[0], most=100)
        sizes = f"{list(found[odd[0]])}, not {list(wanted[odd[0]])}"
        yield BaseFault(f"{part} has {len(odd)} tensors of another shape ({name}: {sizes})", _CURE)


def _renamed(shapes: Shapes) -> Shapes:
    new = {}
    for name, shape in shapes.items():
        for pattern, now in _OLD:
            name = pattern.sub(now, name)
        new[name] = shape
    return new

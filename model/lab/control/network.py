"""The control network itself: made from a base's UNet, written to and read from a folder."""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch

from model.base import Pipeline, image_size
from model.fitness.weights import weights_fault
from model.lab.control.spec import FILE, ControlSpec
from privacy.errors import ModelError
from privacy.home import from_home

# ruff: isort: split
from diffusers import ControlNetModel

ControlNet: TypeAlias = Any  # a diffusers ControlNetModel: untyped mixins
SHIPPED_CONTROL = "tiny-control"
_FILES = ("config.json", FILE, "diffusion_pytorch_model.safetensors")
_TAG = b"craftsfl/model/control/v1\0"
_WIDEST = 256  # diffusers' own embedding goes 16, 32, 96, 256
_HINT = "Name a control's folder, or make one: craftsfl model pretrain-control FOLDER"


@dataclass(frozen=True)
class Control:
    """A trained control, frozen; digest: "sha256:" over its three files."""

    network: ControlNet
    spec: ControlSpec
    digest: str


def make_control_network(pipeline: Pipeline, spec: ControlSpec) -> ControlNet:
    """A ControlNet (Zhang et al. 2023) that starts as a copy of the UNet's encoder, in float32.

    Its output convolutions are zero: untrained, it changes nothing. The embedding of the condition
    has one stage of stride 2 for each halving of the autoencoder. The pipeline carries no adapter.
    """
    if getattr(pipeline.unet, "peft_config", {}):
        raise ModelError("The base carries an adapter.", "Take it off first (adapters.detach).")
    kind: Any = ControlNetModel
    network: ControlNet = kind.from_unet(
        pipeline.unet,
        conditioning_embedding_out_channels=_embedding(int(pipeline.vae_scale_factor)),
        conditioning_channels=spec.channels,
    )
    return network.float().requires_grad_(True)


def spec_for(
    pipeline: Pipeline, types: tuple[str, ...], markers: tuple[str, ...], base: str
) -> ControlSpec:
    """The spec of a control for the pipeline's own image size."""
    return ControlSpec(types, markers, image_size(pipeline), base)


def save_control(network: ControlNet, spec: ControlSpec, folder: Path) -> None:
    """Write the network (half precision) and control.json into `folder`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        network.half().save_pretrained(folder, safe_serialization=True)
        spec.write(folder)
    except OSError as error:
        raise ModelError(
            f"The control cannot be written to {folder}: {error.strerror}.", "Free some space."
        ) from None


def load_control(
    folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Control:
    """Load a control, frozen and in eval mode, from safetensors, without network.

    Raises `ModelError` if the folder holds none, or a damaged one.
    """
    spec = ControlSpec.read(folder)
    digest = _digest(folder)
    kind: Any = ControlNetModel
    try:
        network = kind.from_pretrained(
            folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        fault = weights_fault(folder, _FILES[-1:])
        words = fault.what if fault else "config.json and weights do not belong together"
        raise ModelError(
            f"The control in {folder} cannot be loaded: {words}.",
            "Copy the folder again, whole, or make one: craftsfl model pretrain-control FOLDER",
        ) from error
    if network.config.conditioning_channels != spec.channels:
        raise ModelError(
            f"The control in {folder} takes {network.config.conditioning_channels} channels; its "
            f"{FILE} names {spec.channels}.",
            "Copy the folder again, whole.",
        )
    return Control(network.requires_grad_(False).eval().to(device), spec, digest)


def shipped_control() -> Path | None:
    """The tiny base's control that ships with craftsfl: in the checkout, or installed."""
    checkout = Path(__file__).resolve().parents[3] / "weights" / SHIPPED_CONTROL
    installed = Path(sys.prefix) / "share" / "craftsfl" / SHIPPED_CONTROL
    return next((path for path in (checkout, installed) if path.is_dir()), None)


def find_control(source: str | None) -> Path:
    """The folder that `source` names; the shipped control for None.

    Raises `ModelError` if there is none.
    """
    folder = shipped_control() if source is None else from_home(source)
    if folder is None or not folder.is_dir():
        named = "The control of the tiny base" if source is None else f"The control {source}"
        raise ModelError(f"{named} is not here.", _HINT)
    return folder


def check_fits(pipeline: Pipeline, control: Control) -> None:
    """Raise `ModelError` if the control is for a base of another shape.

    Weights may differ: a control also serves fine-tuned descendants of its base.
    """
    unet, own = pipeline.unet.config, control.network.config
    for key in ("block_out_channels", "layers_per_block", "cross_attention_dim", "in_channels"):
        if _plain(unet[key]) != _plain(own[key]):
            raise ModelError(
                f"The control's {key} is {_plain(own[key])}, the base's {_plain(unet[key])}.",
                "Use the control that was trained on this base. " + _HINT,
            )
    if image_size(pipeline) != control.spec.size:
        raise ModelError(
            f"The control is for {control.spec.size} px, the base draws {image_size(pipeline)} px.",
            "Use the control that was trained on this base. " + _HINT,
        )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple | list) else value


def _embedding(factor: int) -> tuple[int, ...]:
    """Widths of the condition's embedding: (16, 32, 64) for factor 4, 16 to 128 for 8."""
    stages = round(math.log2(factor))
    if 2**stages != factor:
        raise ModelError(f"An autoencoder of factor {factor} has no control.", "Use a power of 2.")
    return tuple(min(16 * 2**stage, _WIDEST) for stage in range(stages + 1))


def _digest(folder: Path) -> str:
    whole = hashlib.sha256(_TAG)
    for name in _FILES:
        try:
            with (folder / name).open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except OSError:
            raise ModelError(f"The control in {folder} has no {name}.", _HINT) from None
    return "sha256:" + whole.hexdigest()

"""A base by its settings: its parts' classes, how they fit, what the UNet predicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeGuard

from model.fitness.fault import AGAIN, READABLE, BaseFault, settings_of
from privacy.visible import visible

PartSettings = Mapping[str, object]

_CLASSES: Final = {
    "unet": ("diffusers", {"UNet2DConditionModel"}),
    "vae": ("diffusers", {"AutoencoderKL", "AutoencoderTiny"}),
    "text_encoder": ("transformers", {"CLIPTextModel"}),
    "tokenizer": ("transformers", {"CLIPTokenizer", "CLIPTokenizerFast"}),
}
# diffusers' schedulers whose noise is sqrt(alpha-bar) z + sqrt(1 - alpha-bar) eps, as the losses'.
_SCHEDULERS: Final = {
    f"{name}Scheduler"
    for name in (
        *("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep"),
        *("DPMSolverSDE", "DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete"),
        *("HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LCM", "LMSDiscrete"),
        *("PNDM", "SASolver", "TCD", "UniPCMultistep"),
    )
}
_PREDICTIONS: Final = ("epsilon", "v_prediction")
_UNUSED: Final = {"safety_checker", "feature_extractor", "image_encoder"}  # never loaded here
_CURE: Final = (
    "Use a base of the shape of Stable Diffusion 1 or 2: one CLIP text encoder, a UNet of four "
    "channels, a scheduler that predicts epsilon or v."
)
_WHOLE: Final = (
    "Name the folder that holds it, unet/, vae/, text_encoder/ and the rest; if this is the one: "
    + AGAIN
)
_INPUTS: Final = {
    5: "5 input channels: it also wants a depth map",
    7: "7 input channels: it is an upscaler",
    8: "8 input channels: it edits a given picture (InstructPix2Pix)",
    9: "9 input channels: it is an inpainting model, which also wants a mask and a picture",
}
# What a UNet may need in addition to latents, time and caption, and which setting says so.
_ASKS: Final = {
    "addition_embed_type": "added embeddings (addition_embed_type {}), as SDXL does",
    "encoder_hid_dim_type": "projected embeddings (encoder_hid_dim_type {}), as Kandinsky does",
    "class_embed_type": "class labels (class_embed_type {})",
    "num_class_embeds": "class labels (num_class_embeds {})",
}


@dataclass(frozen=True, slots=True)
class BaseParts:
    """The settings of each part; empty where they cannot be read."""

    index: PartSettings
    unet: PartSettings
    vae: PartSettings
    text_encoder: PartSettings
    scheduler: PartSettings


def read_parts(folder: Path) -> tuple[BaseParts, list[BaseFault]]:
    """Every part's settings, and which of them are missing or damaged."""
    faults: list[BaseFault] = []

    def read(name: str) -> PartSettings:
        try:
            return settings_of(folder / name)
        except FileNotFoundError:
            cure = _WHOLE if name == "model_index.json" else AGAIN
            faults.append(BaseFault(f"{name} is missing", cure))
        except OSError as error:
            faults.append(BaseFault(f"{name} cannot be read: {error.strerror}", READABLE))
        except ValueError as error:
            faults.append(BaseFault(f"{name} is damaged ({visible(str(error), most=80)})", AGAIN))
        return {}

    parts = BaseParts(
        read("model_index.json"),
        read("unet/config.json"),
        read("vae/config.json"),
        read("text_encoder/config.json"),
        read("scheduler/scheduler_config.json"),
    )
    return parts, faults


def of_index(index: PartSettings) -> Iterator[BaseFault]:
    """Of the parts that the pipeline lists: each of a known class, and no others."""
    made_by = visible(str(index.get("_class_name")), most=60)
    if "XL" in made_by:
        yield BaseFault(f"it is SDXL ({made_by})", _CURE)
    for name, (library, classes) in _CLASSES.items():
        found = index.get(name)
        if not _is_part(found):
            yield BaseFault(f"it has no {name} ({made_by})", _CURE)
        elif found[0] != library or found[1] not in classes:
            said = visible(f"{found[0]}'s {found[1]}", most=80)
            yield BaseFault(f"its {name} is {said}, not {' or '.join(sorted(classes))}", _CURE)
    for name, found in index.items():
        known = name in _CLASSES or name in _UNUSED or name == "scheduler" or name[:1] == "_"
        if not known and _is_part(found):
            said = visible(name, most=60)
            yield BaseFault(f"it has an additional part {said} ({made_by})", _CURE)


def of_unet(parts: BaseParts) -> Iterator[BaseFault]:
    """Of what the UNet takes and returns, against the latents and captions that it gets."""
    unet, vae = parts.unet, parts.vae
    yield from _of_class("unet", unet, _CLASSES["unet"][1])
    yield from _of_class("vae", vae, _CLASSES["vae"][1])
    for name, words in _ASKS.items():
        if unet.get(name) is not None:
            said = visible(repr(unet[name]), most=40)
            yield BaseFault(f"its UNet asks for {words.format(said)}", _CURE)
    latents, taken = vae.get("latent_channels", 4), unet.get("in_channels", 4)
    if taken != latents:
        known = _INPUTS.get(taken) if isinstance(taken, int) else None
        inputs = known or f"{visible(str(taken), most=20)} input channels"
        yield BaseFault(
            f"its UNet has {inputs}; latents have {visible(str(latents), most=20)}", _CURE
        )
    elif unet.get("out_channels", 4) != latents:
        yield BaseFault(
            f"its UNet returns {visible(str(unet['out_channels']), most=20)} channels", _CURE
        )
    size = unet.get("sample_size")
    if type(size) is not int or size < 1:
        yield BaseFault(f"its UNet's sample_size is {visible(repr(size), most=40)}", _CURE)
    read, written = unet.get("cross_attention_dim"), parts.text_encoder.get("hidden_size")
    if type(read) is int and type(written) is int and read != written:
        yield BaseFault(
            f"its UNet reads captions {read} wide, its text encoder's are {written}", _CURE
        )


def of_scheduler(index: PartSettings, scheduler: PartSettings) -> Iterator[BaseFault]:
    """Of the noise that the base was trained on, and of what it predicts."""
    listed, own = index.get("scheduler"), scheduler.get("_class_name")
    kinds = [listed[1] if _is_part(listed) else None, *([] if own is None else [str(own)])]
    for kind in dict.fromkeys(kinds):
        named = visible(str(kind), most=80)
        if kind is None:
            yield BaseFault("it has no scheduler", _CURE)
        elif "FlowM" in named or scheduler.get("use_flow_sigmas"):
            yield BaseFault(f"it is trained by flow matching ({named})", _CURE)
        elif kind not in _SCHEDULERS:
            yield BaseFault(
                f"its scheduler {named} has no variance-preserving noise schedule", _CURE
            )
    predicted = scheduler.get("prediction_type", "epsilon")
    if predicted not in _PREDICTIONS:
        said = visible(repr(predicted), most=40)
        yield BaseFault(f"it predicts {said} (prediction_type), not epsilon or v_prediction", _CURE)


def _of_class(name: str, settings: PartSettings, classes: set[str]) -> Iterator[BaseFault]:
    own = settings.get("_class_name")
    if own is not None and str(own) not in classes:
        yield BaseFault(f"{name}/config.json is of a {visible(str(own), most=60)}", _CURE)


def _is_part(value: object) -> TypeGuard[list[str]]:
    """Whether an entry of the index names a library and a class."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)

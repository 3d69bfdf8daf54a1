"""The training steps that `bench.losses` compares: the same clipped LoRA step, per loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import torch
from diffusers import UNet2DConditionModel

from bench.clip_steps import CLIPPING_NORM, SHAPES, unet_of
from bench.engines import ENGINE_CLASSES
from bench.training import CROSS_ATTENTION, TrainingStep
from model.adapters import attach, parameters
from model.cache import shipped_base
from model.losses import (
    EffectTerm,
    Loss,
    NoiseSchedule,
    Rows,
    StageTwoLoss,
    above_diagonal,
    correlations,
    denoising,
)
from privacy.dpsgd.engine import PhysicalBatch
from privacy.errors import ModelError
from privacy.study.manifest import Adapter
from privacy.study.stage_two import CaptionEffects, DriftSuppressor, Encoder, Grounding, Structure

RANK: Final = 4
_PUBLIC: Final = 8  # captions; each row is compared with one of them
_SIDE: Final = 8  # of the reference's grid: 64 places
_TIMESTEPS: Final = 1000

_ENCODER = Encoder(source="none", digest="sha256:" + "0" * 64)  # its correlations are random
_EFFECTS = CaptionEffects(
    weight=0.5, margin=1.0, encoder=_ENCODER, phrases=tuple(str(i) for i in range(_PUBLIC))
)
_DRIFT = DriftSuppressor(weight=0.5)
_GROUNDING = Grounding(
    weight=0.1, temperature=0.1, captions=tuple(str(i) for i in range(_PUBLIC)), each=1
)


@dataclass(frozen=True)
class StepBase:
    """A UNet to train, and its regulated block, which has 8 by 8 places in every base."""

    block: str
    make: Callable[[], Any]
    size: tuple[int, int]  # height and width of latents; length of a caption's embedding


def _shipped() -> Any:  # noqa: ANN401 - diffusers is untyped
    folder = shipped_base()
    if folder is None:
        raise ModelError("The tiny base is not here.", "Run from a full checkout.")
    kind: Any = UNet2DConditionModel
    return kind.from_pretrained(folder / "unet", use_safetensors=True)


def _shaped(name: str) -> StepBase:
    shape = SHAPES[name]
    return StepBase("up_blocks.1", lambda: unet_of(shape), (shape.latents, shape.text[0]))


BASES: Mapping[str, StepBase] = MappingProxyType(
    {
        "tiny": StepBase("up_blocks.0", _shipped, (16, 48)),
        "small": _shaped("small"),
        "sd15": _shaped("sd15"),
    }
)


@dataclass(frozen=True)
class LossSetting:
    """What one step trains. Every row of the batch is a patient of its own."""

    base: str
    batch: int
    engine: str = "lora"
    device: str = "cpu"
    precision: str = "float32"  # or "bf16": autocast


def loss_called(name: str, captions: torch.Tensor, block: str) -> Loss:
    """The loss named in a row. The margin is 1, so that the hinge is always active."""
    match name:
        case "denoising":
            return denoising
        case "structure":
            return StageTwoLoss(Structure(weight=0.5, margin=1.0, block=block, encoder=_ENCODER))
        case "effects":
            return StageTwoLoss(effects=EffectTerm(_EFFECTS, captions, captions[:1]))
        case "drift":
            return StageTwoLoss(drift=_DRIFT)
        case "public drift":
            return StageTwoLoss(drift=_DRIFT, drift_captions=captions)
        case _:
            return StageTwoLoss(None, _DRIFT, _GROUNDING, captions, captions)


COMPARED_LOSSES: Final = ("structure", "effects", "drift", "public drift", "grounding")
"""Each, beside denoising, is compared with denoising. "grounding" has K = 1 and public drift."""


def make_loss_step(name: str, setting: LossSetting) -> TrainingStep:
    """A step with the loss `name`: forward passes, backward pass, clip; no optimiser, no noise.

    Always the same weights and rows.
    """
    base = BASES[setting.base]
    torch.manual_seed(0)
    unet = base.make().to(setting.device).eval()
    layout = attach(unet, Adapter(targets=CROSS_ATTENTION, rank=RANK, alpha=RANK))
    trained = parameters(unet, layout)
    with torch.no_grad():
        for parameter in trained:
            parameter.normal_(std=0.02)
    rows, captions = _rows(base, setting, int(unet.config.cross_attention_dim))
    schedule = NoiseSchedule(
        torch.linspace(0.999, 0.005, _TIMESTEPS, device=setting.device), "epsilon"
    )
    loss = loss_called(name, captions, base.block)
    half = setting.precision == "bf16"

    def losses() -> torch.Tensor:
        with torch.autocast(setting.device, torch.bfloat16, enabled=half):
            return loss(unet, rows, schedule)

    engine = ENGINE_CLASSES[setting.engine](unet, trained)
    batch = PhysicalBatch(torch.arange(setting.batch), losses)

    def step() -> None:
        engine.clipped_sum([batch], CLIPPING_NORM)

    return step


def _rows(base: StepBase, setting: LossSetting, width: int) -> tuple[Rows, torch.Tensor]:
    """Random rows, and embeddings of public captions."""
    side, length = base.size
    count = setting.batch
    rows = Rows(
        latents=torch.randn(count, 4, side, side),
        timesteps=torch.randint(0, _TIMESTEPS, (count,)),
        noise=torch.randn(count, 4, side, side),
        text=torch.randn(count, length, width),
        reference=above_diagonal(correlations(torch.randn(count, 32, _SIDE, _SIDE))).half(),
        likeness=torch.rand(count, _PUBLIC),
    )
    return rows.to(setting.device), torch.randn(_PUBLIC, length, width).to(setting.device)

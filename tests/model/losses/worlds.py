"""The random tiny UNet with an adapter, rows of several patients, and the losses to be tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from model.adapters import attach, parameters
from model.losses import (
    EffectTerm,
    NoiseSchedule,
    Rows,
    StageTwoLoss,
    above_diagonal,
    correlations,
    denoising,
    each,
)
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.opacus_engine import OpacusEngine
from privacy.study.manifest import Adapter
from privacy.study.stage_two import CaptionEffects, DriftSuppressor, Encoder, Grounding, Structure

BLOCK = "up_blocks.0"  # 8 by 8 places before its upsampler, 64 channels
LATENTS, TEXT = (4, 16, 16), (16, 32)

ENCODER = Encoder(source="tiny", digest="sha256:" + "0" * 64)
STRUCTURE = Structure(weight=0.7, margin=1.0, block=BLOCK, encoder=ENCODER)
DRIFT = DriftSuppressor(weight=0.4)
GROUNDING = Grounding(weight=0.3, temperature=0.05, captions=("a", "b", "c"), each=2)
CAPTIONS = torch.randn(3, *TEXT, generator=torch.Generator().manual_seed(9))
EFFECTS = CaptionEffects(
    weight=0.6, margin=1.0, encoder=ENCODER, phrases=("a", "b", "c", "d"), nearest=2
)
PHRASES = torch.randn(5, *TEXT, generator=torch.Generator().manual_seed(8))
EFFECT_TERM = EffectTerm(EFFECTS, phrases=PHRASES[:4], empty=PHRASES[4:])

LOSSES = {
    "denoising": denoising,
    "structure": StageTwoLoss(STRUCTURE),
    "effects": StageTwoLoss(effects=EFFECT_TERM),
    "drift": StageTwoLoss(drift=DRIFT),
    "public drift": StageTwoLoss(drift=DRIFT, drift_captions=CAPTIONS),
    "grounding": StageTwoLoss(grounding=GROUNDING, captions=CAPTIONS),
    "stage-two": StageTwoLoss(STRUCTURE, DRIFT, GROUNDING, CAPTIONS, effects=EFFECT_TERM),
}
ENGINES: dict[str, Callable[..., Any]] = {"lora": LoraEngine, "opacus": OpacusEngine}


def make_rows(count: int = 4, seed: int = 0, *, side: int = 8) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, 12, side, side, generator=generator)
    return Rows(
        latents=torch.randn(count, *LATENTS, generator=generator),
        timesteps=torch.randint(0, 1000, (count,), generator=generator),
        noise=torch.randn(count, *LATENTS, generator=generator),
        text=torch.randn(count, *TEXT, generator=generator),
        reference=above_diagonal(correlations(tokens)).half(),
        likeness=torch.rand(count, 4, generator=generator) + 0.1,
    )


def take(rows: Rows, places: torch.Tensor) -> Rows:
    return each(lambda part: part[places], rows)


def with_others_replaced(rows: Rows, kept: torch.Tensor, seed: int = 5) -> Rows:
    """The rows marked by `kept` as they are, all others of other tiles, times and captions."""
    other = make_rows(len(kept), seed)
    places = torch.where(kept, torch.arange(len(kept)), torch.arange(len(kept)) + len(kept))
    return take(each(lambda own, others: torch.cat([own, others]), rows, other), places)


@dataclass
class World:
    """A UNet with a trained-looking adapter."""

    unet: Any
    trained: list[nn.Parameter]
    schedule: NoiseSchedule

    def passes(self) -> list[tuple[bool, int]]:
        """Every forward pass from now on: (with gradient, rows)."""
        seen: list[tuple[bool, int]] = []

        def note(module: nn.Module, inputs: Any) -> None:
            seen.append((torch.is_grad_enabled(), len(inputs[0])))

        self.unet.register_forward_pre_hook(note)
        return seen


def make_world(pipeline: Any) -> World:
    layout = attach(pipeline.unet, Adapter(targets=("attn2.to_q", "attn2.to_v"), rank=2, alpha=3))
    trained = parameters(pipeline.unet, layout)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trained:
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return World(pipeline.unet, trained, NoiseSchedule.of(pipeline.scheduler))


def without(rows: Rows, name: str) -> Rows:
    return replace(rows, **{name: None})

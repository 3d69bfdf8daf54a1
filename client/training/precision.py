"""In which precision a site's frozen layers compute: what is faster on its processor."""

# Why: docs/adr/0070-short-slots.md

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, TypeAlias

import torch

from model.adapters import Unet
from model.mixed_precision import MixedPrecision
from model.processor import multiplies_bfloat16
from privacy.study.manifest import Study

Precision: TypeAlias = Literal["float32", "bfloat16"]

_ROWS, _SIDE = 16, 16  # of blank latents; larger ones would say the same, and take longer
_TRIALS: Final = 5
_WORTH: Final = 0.9  # of the time in float32: less would hardly be noticed


def precision_for(wanted: Literal["auto", "float32"], unet: Unet, study: Study) -> Precision:
    """The precision for training `study` on `unet` where it is.

    "auto": bfloat16 where the processor has instructions for it, and passes of blank rows are
    measured to be faster with them; no patient's row is looked at. On a GPU float32, and where the
    loss compares effects: of a small difference of two predictions, too little would be left.
    """
    fits = wanted == "auto" and unet.device.type == "cpu" and unet.dtype == torch.float32
    compares = study.stage_two is not None and study.stage_two.effects is not None
    if not fits or compares or not multiplies_bfloat16():
        return "float32"
    # Alternately, and the processor time: what else runs on the machine matters little. The first
    # passes are slower; where it is faster, the second ones usually tell.
    full, mixed = _pass(unet, nullcontext), _pass(unet, MixedPrecision(unet).active)
    in_full, in_part = full(), mixed()
    for _ in range(1, _TRIALS):
        in_full, in_part = min(in_full, full()), min(in_part, mixed())
        if in_part < _WORTH * in_full:
            return "bfloat16"
    return "float32"


def _pass(unet: Unet, setting: Callable[[], AbstractContextManager[None]]) -> Callable[[], float]:
    """Processor seconds of a forward pass of blank rows inside `setting`."""
    config = unet.config
    side = min(_SIDE, int(config.sample_size))
    latents = torch.zeros(_ROWS, config.in_channels, side, side)
    text = torch.zeros(_ROWS, 8, config.cross_attention_dim)
    times = torch.zeros(_ROWS, dtype=torch.int64)

    @torch.no_grad()
    def seconds() -> float:
        with setting():
            began = time.process_time()
            unet(latents, times, text)
            return time.process_time() - began

    return seconds

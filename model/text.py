"""Captions as the diffusion model reads them.

Not diffusers' own prompt encoding: that logs what it cuts off, and no caption may enter a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from model.base import Pipeline

_BATCH: Final = 8  # fits a CPU's cache


@torch.no_grad()
def encode_captions(pipeline: Pipeline, captions: Sequence[str]) -> Tensor:
    """Embeddings [captions, length, width] as the pipeline makes them, cut at its length; float32.

    On the CPU.
    """
    tokenizer, encoder = pipeline.tokenizer, pipeline.text_encoder
    parts = []
    for start in range(0, len(captions), _BATCH):
        tokens = tokenizer(
            list(captions[start : start + _BATCH]),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).to(pipeline.device)
        # As diffusers: most encoders of this family were trained without a mask.
        masked = getattr(encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask if masked else None
        parts.append(encoder(tokens.input_ids, attention_mask=mask)[0].float().cpu())
    return torch.cat(parts)

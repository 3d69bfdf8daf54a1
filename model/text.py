"""Captions as the diffusion model reads them.

diffusers' own prompt encoding is not used, since it logs what it cuts off and no caption may enter
a log. One caption at a time, so that an embedding depends, bit for bit, on its own caption alone:
in a batch, rounding would make it depend on how many others there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.base import Pipeline


@torch.no_grad()
def encode_captions(pipeline: Pipeline, captions: Sequence[str]) -> Tensor:
    """Embeddings [captions, length, width] as the pipeline makes them, cut at its length; float32.

    On the CPU.
    """
    return torch.cat([_encoded(pipeline, caption) for caption in captions])


def _encoded(pipeline: Pipeline, caption: str) -> Tensor:
    """[1, length, width]"""
    tokenizer, encoder = pipeline.tokenizer, pipeline.text_encoder
    tokens = tokenizer(
        [caption],
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).to(pipeline.device)
    # As diffusers: most encoders of this family were trained without a mask.
    masked = getattr(encoder.config, "use_attention_mask", False)
    mask = tokens.attention_mask if masked else None
    embedded: Tensor = encoder(tokens.input_ids, attention_mask=mask)[0]
    return embedded.float().cpu()

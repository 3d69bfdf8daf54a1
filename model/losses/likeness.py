"""r: how alike captions are to public phrases, by a frozen text tower. No picture is looked at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from model.encoders.interface import ImageTextEncoder

_ENDS: Final = re.compile(r"[;.](?:\s+|$)")  # and not the point of 0.5 mm


def segments(caption: str) -> list[str]:
    """The parts of a caption between semicolons and full stops; at least one.

    For example "chordoma, sacrum; PAS reaction." has two. Each names one thing, and of a text that
    names several an embedding is a mean that is like none.
    """
    return [part.strip() for part in _ENDS.split(caption) if part.strip()] or [caption]


@torch.no_grad()
def phrase_likeness(
    encoder: ImageTextEncoder, captions: Sequence[str], phrases: Sequence[str]
) -> Tensor:
    """r [captions, P] in -1..1, float32 on the CPU.

    The largest cosine of a caption's own segments with a phrase, after the mean over the public
    phrases was taken off all embeddings: uncentred, all texts are alike. A caption's row depends,
    bit for bit, on that caption and on what is public.
    """
    # One text at a time: in a batch, rounding and padding would depend on the other texts.
    known = torch.cat([encoder.embed_text([phrase]) for phrase in phrases]).float()
    mean = known.mean(dim=0)
    known = functional.normalize(known - mean, dim=1)
    rows = []
    for caption in captions:
        parts = torch.cat([encoder.embed_text([part]) for part in segments(caption)]).float()
        parts = functional.normalize(parts - mean, dim=1)
        rows.append((parts @ known.T).amax(dim=0))
    return torch.stack(rows).cpu() if rows else torch.empty(0, len(phrases))

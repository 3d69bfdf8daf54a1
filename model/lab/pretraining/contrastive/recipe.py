"""How a tiny encoder is trained: tower, sizes, step counts, seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from privacy.errors import ModelError


@dataclass(frozen=True)
class EncoderRecipe:
    """Fixed step counts, so that the same recipe makes the same encoder on the same machine.

    tower: "vit" makes a CLIPModel with 8 x 8 patches of 8 px, "convnext" a dual encoder with a
    ConvNeXt. tiles: of each source, H&E and the domain; `reconstructed` of each are also kept as
    the base's autoencoder reconstructs them, like every generated image, and are half of what
    training sees. galleries: held-out tiles of each content; layouts: tiles of each
    morphology, to compare tokens with the nuclei. rate: AdamW's at its peak.
    words: whose of `contrastive.wording` its captions are.
    """

    words: Literal["reference", "evaluator"]
    tower: Literal["vit", "convnext"]
    seed: int
    tiles: int = 6000
    reconstructed: int = 2000
    galleries: int = 20
    layouts: int = 10
    vocabulary: int = 1200
    steps: int = 900
    batch: int = 64
    rate: float = 1.5e-3
    ema_decay: float = 0.99
    checkpoint_every: int = 150

    def smoke(self) -> EncoderRecipe:
        """A run of seconds that exercises every stage and learns nothing."""
        return replace(
            self,
            tiles=24,
            reconstructed=12,
            galleries=2,
            layouts=2,
            steps=4,
            batch=8,
            checkpoint_every=2,
        )


# The evaluator shares neither architecture nor seed, tiles nor captions with the reference, because
# it judges what was trained towards the reference.
RECIPES = MappingProxyType(
    {
        "reference": EncoderRecipe("reference", "vit", seed=3031),
        "evaluator": EncoderRecipe("evaluator", "convnext", seed=4047, steps=700),
    }
)


def find_recipe(role: str) -> EncoderRecipe:
    """The recipe of "reference" or "evaluator". Raises `ModelError` for another role."""
    if role not in RECIPES:
        raise ModelError(f"Unknown recipe {role!r}.", f"Choose one of {', '.join(RECIPES)}.")
    return RECIPES[role]

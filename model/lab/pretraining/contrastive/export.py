"""Write a tiny encoder as a folder that transformers, and `model.encoders`, can load."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CLIPTokenizer

from model.lab.pretraining.contrastive.networks import IMAGE_SIZE, ImageText
from model.lab.pretraining.contrastive.recipe import EncoderRecipe
from model.lab.pretraining.contrastive.validation import ValidationFigure

_TOWERS = {
    "vit": "a CLIP whose image tower is a ViT with 8 x 8 patches",
    "convnext": "a dual encoder whose image tower is a ConvNeXt with a 4 x 4 feature map",
}
_CARD = """---
license: apache-2.0
library_name: transformers
---
# Tiny tissue {role}

{tower}, {parameters:,} parameters, for 64 x 64 px.
For demonstrations and tests of federated fine-tuning, **not for any medical use**. It has never
seen a real slide: every tile was drawn by a program (`model/lab/tissue`), every caption comes from
a table, so nobody's data is in it.

Made by `craftsfl model pretrain-encoder --recipe {role}` with seed {seed}: {steps} steps of {batch}
pairs, half H&E, half the domain of `model/lab/tissue/domain.py`; {tiles:,} tiles of each. Its
captions are in words of its own (`contrastive/wording.py`): the other encoder read none of them.
Half of what it saw were tiles as the base's autoencoder gives them back, of {reconstructed:,} of
each. Contrastive loss with all pairs of equal content positive. Half precision; use float32 on a
CPU.

## Measured

With the weights as they are here, on tiles of other patients than those of training and on the
captions of patients' tiles: those of the domain are sentences that training never read. A gallery
has one tile and one caption of each of 52 contents. Intervals: 95 %, bootstrap over n tiles; seed
{seed}.

| figure | tiles | mean | interval | n |
|---|---|---|---|---|
{rows}
"""


def export_encoder(model: ImageText, tokenizer: CLIPTokenizer, out: Path) -> None:
    """Write weights (half precision), tokenizer and normalisation to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    preprocessing: dict[str, Any] = {
        "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    text = json.dumps(preprocessing, indent=2) + "\n"
    (out / "preprocessor_config.json").write_text(text, encoding="utf-8")


def write_encoder_card(
    out: Path,
    role: str,
    recipe: EncoderRecipe,
    parameters: int,
    figures: Mapping[str, Mapping[str, ValidationFigure]],
) -> None:
    """README.md and figures.json next to the weights; figures by kind of tiles, then by name."""
    rows = [
        f"| {name} | {kind} | {f.mean:.3f} | {f.low:.3f} to {f.high:.3f} | {f.n} |"
        for kind, table in figures.items()
        for name, f in table.items()
    ]
    tower = _TOWERS[recipe.tower]
    card = _CARD.format(
        **vars(recipe) | {"tower": tower[0].upper() + tower[1:]},
        role=role,
        parameters=parameters,
        rows="\n".join(rows),
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    plain = {kind: {name: vars(f) for name, f in table.items()} for kind, table in figures.items()}
    (out / "figures.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")

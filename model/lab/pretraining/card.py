"""The model card of a pretrained tiny base."""

from __future__ import annotations

import json
from pathlib import Path

from model.base import Pipeline
from model.lab.pretraining.networks import parameter_count
from model.lab.pretraining.recipe import Recipe

_TEXT = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# Tiny tissue base

A Stable-Diffusion-shaped text-to-image model of 64 x 64 px tissue, in H&E or other dyes. It is for
demonstrations and tests of federated fine-tuning, **not for any medical use**: it has never seen
a real slide. Every training tile was drawn by a program (`model/lab/tissue`), every caption
comes from a table, so nobody's data is in it.

Made by `craftsfl model pretrain` with seed {seed}{beginning}:

| part | parameters | training |
|---|---|---|
| autoencoder to 16 x 16 x 4 | {vae:,} | {autoencoder_steps} steps of {autoencoder_batch} |
| text encoder, {vocabulary} tokens | {text:,} | with the UNet |
| UNet, epsilon prediction | {unet:,} | {diffusion_steps} steps of {diffusion_batch} |

{tiles:,} tiles of 12 morphologies in H&E and {palettes:,} in other dyes, whose captions name the
colours; no protocol of `model/lab/tissue/domain.py` is among them.
Captions are dropped with probability {caption_dropout}, so classifier-free guidance works. Latents
of H&E have unit variance: the scaling factor is 1. Weights are averaged over steps (EMA
{ema_decay}) and kept in half precision; diffusers and transformers read them in single, unless
`dtype` says otherwise.

## Judges

`judges/` holds two judges of the morphology that a tile shows, trained on drawn tiles and fixed
before the diffusion model was trained. Share recognised of {held_out} held-out tiles that the
autoencoder reconstructed:

| morphology | cnn | lda |
|---|---|---|
{accuracy}
"""


_BEGINNING = """,
from the tiny base `{former}`
of an earlier version (`--former`), which knew H&E alone; the steps below are those since then"""


def tiny_base_card(
    pipeline: Pipeline, judges: Path, recipe: Recipe, former: str | None = None
) -> str:
    """The text of the README.md next to the weights; `former`: digest of what they go on from."""
    table = json.loads((judges / "accuracy.json").read_text())
    rows = [f"| {m} | {table['cnn'][m]:.2f} | {table['lda'][m]:.2f} |" for m in table["cnn"]]
    return _TEXT.format(
        **vars(recipe) | {"vocabulary": len(pipeline.tokenizer)},
        beginning="" if former is None else _BEGINNING.format(former=former),
        vae=parameter_count(pipeline.vae),
        text=parameter_count(pipeline.text_encoder),
        unet=parameter_count(pipeline.unet),
        accuracy="\n".join(rows),
    )

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

A Stable-Diffusion-shaped text-to-image model of 64 x 64 px, H&E-like tissue. It is for
demonstrations and tests of federated fine-tuning, **not for any medical use**: it has never seen
a real slide. Every training tile was drawn by a program (`model/lab/tissue`), every caption
comes from a table, so nobody's data is in it.

Made by `craftsfl model pretrain` with seed {seed}:

| part | parameters | training |
|---|---|---|
| autoencoder to 16 x 16 x 4 | {vae:,} | {autoencoder_steps} steps of {autoencoder_batch} |
| text encoder, {vocabulary} tokens | {text:,} | with the UNet |
| UNet, epsilon prediction | {unet:,} | {diffusion_steps} steps of {diffusion_batch} |

{tiles:,} tiles of 12 morphologies; captions are dropped with probability {caption_dropout}, so
classifier-free guidance works. Latents have unit variance: the scaling factor is 1. Weights are
averaged over steps (EMA {ema_decay}) and kept in half precision; diffusers and transformers
read them in single, unless `dtype` says otherwise.

## Judges

`judges/` holds two judges of the morphology that a tile shows, trained on drawn tiles and fixed
before the diffusion model was trained. Share recognised of {held_out} held-out tiles that the
autoencoder reconstructed:

| morphology | cnn | lda |
|---|---|---|
{accuracy}
"""


def tiny_base_card(pipeline: Pipeline, judges: Path, recipe: Recipe) -> str:
    """The text of the README.md next to the weights."""
    table = json.loads((judges / "accuracy.json").read_text())
    rows = [f"| {m} | {table['cnn'][m]:.2f} | {table['lda'][m]:.2f} |" for m in table["cnn"]]
    return _TEXT.format(
        **vars(recipe) | {"vocabulary": len(pipeline.tokenizer)},
        vae=parameter_count(pipeline.vae),
        text=parameter_count(pipeline.text_encoder),
        unet=parameter_count(pipeline.unet),
        accuracy="\n".join(rows),
    )

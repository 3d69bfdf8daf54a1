"""Write what pretraining made as an ordinary folder of a diffusers pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from model.base import Pipeline, save_base
from model.lab.pretraining.card import tiny_base_card
from model.lab.pretraining.diffusion import TinyDenoiser
from model.lab.pretraining.networks import Autoencoder, make_scheduler
from model.lab.pretraining.recipe import Recipe


def assemble(vae: Autoencoder, tokenizer: CLIPTokenizer, denoiser: TinyDenoiser) -> Pipeline:
    """A Stable Diffusion pipeline of the parts, without safety checker."""
    kind: Any = StableDiffusionPipeline
    return kind(
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export_tiny_base(
    pipeline: Pipeline, judges: Path, out: Path, recipe: Recipe, former: str | None = None
) -> None:
    """Write pipeline (half precision), judges and model card to `out`.

    former: digest of the base that training went on from.
    """
    out.mkdir(parents=True, exist_ok=True)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        part.to("cpu").half()
    save_base(pipeline, out)
    target = out / "judges"
    target.mkdir(exist_ok=True)
    for file in sorted(judges.iterdir()):
        shutil.copyfile(file, target / file.name)
    card = tiny_base_card(pipeline, judges, recipe, former)
    (out / "README.md").write_text(card, encoding="utf-8")

"""All of an encoder's training in order: tiles, tokenizer, contrast, export, validation."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np

from model.arrays import Images
from model.base import load_base
from model.cache import SHIPPED_BASE, shipped_base
from model.encoders import load_image_text_encoder
from model.lab.pretraining.autoencoder import reconstruct
from model.lab.pretraining.contrastive.corpus import (
    CaptionedCorpus,
    Reconstruct,
    draw_held_out,
    draw_training,
    vocabulary_texts,
)
from model.lab.pretraining.contrastive.export import export_encoder, write_encoder_card
from model.lab.pretraining.contrastive.recipe import EncoderRecipe, find_recipe
from model.lab.pretraining.contrastive.training import train_image_text
from model.lab.pretraining.contrastive.validation import ValidationFigure, validate, validate_layout
from model.lab.pretraining.contrastive.wording import WORDINGS
from model.lab.pretraining.networks import parameter_count, training_device
from model.lab.pretraining.recipe import CHECKPOINTS, Progress
from model.lab.pretraining.tokenizer import train_tokenizer
from model.lab.stage_one.workspace import claim
from privacy.errors import ModelError


def _silent(stage: str, step: int, steps: int) -> None:
    del stage, step, steps


def pretrain_encoder(
    out: Path,
    role: str = "reference",
    on_progress: Progress = _silent,
    *,
    recipe: EncoderRecipe | None = None,
    base: Path | None = None,
) -> dict[str, dict[str, ValidationFigure]]:
    """Make the tiny encoder `role`, "reference" or "evaluator", in `out`; return its figures.

    base: the pipeline whose autoencoder it should know, the tiny one if None. A killed run
    continues from its last checkpoint, in out/.checkpoints, when called again with the same
    arguments. Raises `ModelError` for an unknown role, if there is no base, and if `out`
    holds another run's checkpoints.
    """
    recipe = recipe or find_recipe(role)
    place = out / CHECKPOINTS
    through = _autoencoder(base)  # first: a folder is not claimed for a base that is not there
    claim(place, {"encoder": role, "base": str(base or SHIPPED_BASE), **asdict(recipe)})
    data = draw_training(recipe, through, place, on_progress)
    tokenizer = train_tokenizer(
        vocabulary_texts(recipe.seed, WORDINGS[recipe.words]), recipe.vocabulary
    )
    model = train_image_text(data, tokenizer, recipe, place, on_progress)
    export_encoder(model, tokenizer, out)
    figures = _figures(out, recipe, through)
    write_encoder_card(out, role, recipe, parameter_count(model), figures)
    shutil.rmtree(place)
    return figures


def _autoencoder(base: Path | None) -> Reconstruct:
    folder = base or shipped_base()
    if folder is None:
        raise ModelError(
            "The tiny base that ships with craftsfl is not installed.",
            "Make it with `craftsfl model pretrain`, or name a base.",
        )
    vae = load_base(folder, training_device()).vae

    def through(images: Images) -> Images:
        return np.asarray(reconstruct(vae, images))

    return through


def _figures(
    out: Path, recipe: EncoderRecipe, through: Reconstruct
) -> dict[str, dict[str, ValidationFigure]]:
    """Measured on the weights as written, so rounding to half precision is included."""
    encoder = load_image_text_encoder(str(out), training_device())
    drawn = draw_held_out(recipe)
    again = CaptionedCorpus(through(drawn.images), drawn.contents, 0)
    return {
        "drawn": validate(encoder, drawn, recipe.seed)
        | validate_layout(encoder, recipe.seed, recipe.layouts),
        "reconstructed": validate(encoder, again, recipe.seed),
    }

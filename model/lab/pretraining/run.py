"""All of stage one in order: tiles, autoencoder, judges, diffusion, export."""

from __future__ import annotations

import shutil
from pathlib import Path

from model.base import load_base
from model.digest import folder_digest
from model.lab.pretraining.autoencoder import encode, train_autoencoder
from model.lab.pretraining.corpus import caption_corpus, draw_corpus
from model.lab.pretraining.diffusion import Latents, train_diffusion
from model.lab.pretraining.export import assemble, export_tiny_base
from model.lab.pretraining.judging import train_judges
from model.lab.pretraining.networks import training_device
from model.lab.pretraining.recipe import CHECKPOINTS, Progress, Recipe
from model.lab.pretraining.tokenizer import train_tokenizer


def _silent(stage: str, step: int, steps: int) -> None:
    del stage, step, steps


def pretrain_tiny_base(
    out: Path,
    recipe: Recipe | None = None,
    on_progress: Progress = _silent,
    *,
    workspace: Path | None = None,
    former: Path | None = None,
) -> None:
    """Make a tiny base in folder `out`; on_progress(stage, step, steps) after each step.

    former: a tiny base to go on from, with its tokenizer; then `Recipe.continued` is the default.

    A killed run continues from its last checkpoint when called again with the same arguments.
    Checkpoints are in out/.checkpoints and removed at the end; those in the caller's own
    `workspace` stay.
    """
    start = None if former is None else load_base(former, training_device())
    recipe = recipe or (Recipe() if start is None else Recipe.continued())
    place = workspace or out / CHECKPOINTS
    place.mkdir(parents=True, exist_ok=True)
    corpus = draw_corpus(recipe, place, on_progress)
    vae = train_autoencoder(corpus, recipe, place, on_progress, start and start.vae)
    train_judges(corpus, vae, recipe, place, on_progress)
    tokenizer = (
        train_tokenizer(caption_corpus(recipe.seed), recipe.vocabulary)
        if start is None
        else start.tokenizer
    )
    data = Latents(encode(vae, corpus.images[: corpus.train]), corpus)
    denoiser = train_diffusion(data, tokenizer, recipe, place, on_progress, start)
    beginning = None if former is None else folder_digest(former)
    export_tiny_base(assemble(vae, tokenizer, denoiser), place / "judges", out, recipe, beginning)
    if workspace is None:
        shutil.rmtree(place)

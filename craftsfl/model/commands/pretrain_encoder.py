"""`craftsfl model pretrain-encoder`: a tiny image-text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def model_pretrain_encoder(
    out: Annotated[
        Path, typer.Argument(help="The folder of the new encoder; resumed if interrupted.")
    ],
    recipe: Annotated[
        str,
        typer.Option(help="reference (a ViT, to train towards) or evaluator (a CNN, to judge)."),
    ] = "reference",
    base: Annotated[
        Path | None,
        typer.Option(help="The base whose autoencoder it should know; the tiny one if left out."),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="A few steps only, to see that it runs; the result knows nothing."
        ),
    ] = False,
) -> None:
    """A tiny encoder of images and texts, from procedural tissue and its captions."""
    from craftsfl.model.commands.bars import bars
    from craftsfl.model.outputs import check_new_folder

    check_new_folder(out, "model.safetensors", "an encoder")
    from model.encoders import load_encoder
    from model.lab.pretraining.contrastive import find_recipe
    from model.lab.pretraining.contrastive import pretrain_encoder as run

    chosen = find_recipe(recipe)
    with bars() as show:
        run(out, recipe, show, recipe=chosen.smoke() if smoke else chosen, base=base)
    typer.echo(f"{out}: {load_encoder(str(out)).digest}")

"""`craftsfl model`: base models and samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Base models: pretrain, install, sample.", no_args_is_help=True)


@app.command()
def pretrain(
    out: Annotated[
        Path, typer.Argument(help="The folder of the new base; resumed if interrupted.")
    ],
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A few steps only, to see that it runs; draws noise.")
    ] = False,
) -> None:
    """Stage one of the tiny base, from procedural tissue: autoencoder, judges, diffusion."""
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from model.digest import folder_digest
    from model.pretraining import Recipe
    from model.pretraining import pretrain as run

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        tasks: dict[str, object] = {}

        def show(stage: str, step: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=step)  # type: ignore[arg-type]

        run(out, Recipe.smoke() if smoke else Recipe(), show)
    typer.echo(f"{out}: {folder_digest(out)}")


@app.command()
def install(
    folder: Annotated[Path, typer.Argument(help="A diffusers pipeline folder.")],
) -> None:
    """Put a base into this machine's model cache and print the digest for study.toml."""
    from model.cache import install_base

    typer.echo(install_base(folder))


@app.command()
def sample(
    prompts: Annotated[list[str], typer.Argument(help="One or more prompts.")],
    out: Annotated[Path, typer.Option(help="The picture to write (PNG).")],
    base: Annotated[
        str | None,
        typer.Option(help="A base's digest or folder; the embedded tiny one if left out."),
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(help="A trained adapter, .safetensors; shown beside the base.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="One row of images for each seed.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    guidance: Annotated[float, typer.Option(min=0.0)] = 3.0,
) -> None:
    """Draw samples of a base and, with --adapter, of the adapted model beside them."""
    from craftsfl.sampling import draw
    from model.sampling import Pictures

    pictures = Pictures(tuple(prompts), tuple(seed or [0]), steps, guidance)
    draw(pictures, base=base, adapter=adapter, out=out)
    typer.echo(str(out))

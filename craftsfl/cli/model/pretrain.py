"""`craftsfl model pretrain`: stage one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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

"""`craftsfl model pretrain-control`: a ControlNet for a base, from public pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def model_pretrain_control(
    out: Annotated[
        Path, typer.Argument(help="The folder of the new control; resumed if interrupted.")
    ],
    base: Annotated[
        str | None, typer.Option(help="A base's folder or hub id; the tiny one if left out.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A PUBLIC folder of images/ and masks/; drawn tissue if left out."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--type", help="A type of the masks' nuclei; untyped if left out."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    batch: Annotated[int | None, typer.Option(min=1)] = None,
    public: Annotated[
        bool,
        typer.Option("--public", help="The data are public, though they name patients."),
    ] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A few steps only, to see that it runs.")
    ] = False,
) -> None:
    """Train a control on public masks and fluorescence; the base is frozen, no budget is spent."""
    from craftsfl.model.commands.bars import bars
    from craftsfl.model.outputs import check_new_folder

    check_new_folder(out, "control.json", "a control")
    from craftsfl.model.control import train_control
    from model.lab.control.recipe import ControlRecipe, PublicFolder

    start = ControlRecipe.smoke() if smoke else ControlRecipe()
    source = PublicFolder(data, public=public) if data is not None else None
    recipe = start.changed(source=source, types=tuple(kind or ()), steps=steps, batch=batch)
    with bars() as show:
        digest = train_control(out, base, recipe, show)
    typer.echo(f"{out}: {digest}")

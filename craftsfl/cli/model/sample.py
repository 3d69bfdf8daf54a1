"""`craftsfl model sample`: what a base, or an adapted one, draws."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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

"""`craftsfl model describe`: where a picture or an adapter comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def describe(
    files: Annotated[
        list[Path], typer.Argument(help="Pictures that craftsfl drew (.png), or adapters.")
    ],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show model, adapter, epsilon, prompt and seed that a synthetic picture carries with it."""
    from craftsfl.model.provenance import as_json, show
    from craftsfl.terminal import output

    if json:
        typer.echo(as_json(files))
    else:
        show(files, output())

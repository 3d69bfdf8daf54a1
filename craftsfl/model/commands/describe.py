"""`craftsfl model describe`: where a picture or an adapter comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def model_describe(
    files: Annotated[
        list[Path], typer.Argument(help="Pictures drawn by craftsfl (.png), or adapters.")
    ],
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the model, adapter, epsilon, prompt and seed that a synthetic picture carries."""
    from craftsfl.model.provenance import descriptions_json, show_descriptions
    from craftsfl.terminal import output

    if json:
        typer.echo(descriptions_json(files))
    else:
        show_descriptions(files, output())

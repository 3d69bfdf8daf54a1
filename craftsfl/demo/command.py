"""`craftsfl demo`: three hospitals and a coordinator on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where everything goes; earlier results are kept.")
    ] = Path("demo"),
    data: Annotated[
        Path | None,
        typer.Option(help="Real tiles: one sub-folder per hospital, each with a metadata file."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Rounds, instead of the demo's.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The SuperLink's port; any free one if left out."),
    ] = None,
) -> None:
    """Train one shared model at three hospitals, each with a privacy budget of its own.

    craftsfl -q demo shows the results alone; what every process says is in DIR/logs.
    """
    from craftsfl.demo.run import run_demo
    from craftsfl.demo.workspace import DemoOptions

    run_demo(DemoOptions(folder=directory, data=data, rounds=rounds, port=port))

"""`craftsfl demo`: three hospitals and a coordinator on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class DemoWay(StrEnum):
    """How the demo's hospitals protect their patients."""

    POOLED = "pooled"
    THRESHOLD = "threshold"


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="Where everything is written; earlier results are kept.")
    ] = Path("demo"),
    data: Annotated[
        Path | None,
        typer.Option(
            help="Real tiles: a folder with one sub-folder per hospital, each with a metadata file."
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Number of rounds; the demo's own if left out.")
    ] = None,
    mode: Annotated[
        DemoWay, typer.Option(help="How the noise is added: pooled, or by each hospital alone.")
    ] = DemoWay.POOLED,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The SuperLink's port; any free one if left out."),
    ] = None,
    browser: Annotated[
        bool, typer.Option(help="Open the demo's page where there is a browser and a screen.")
    ] = True,
    noise_off: Annotated[
        bool, typer.Option("--noise-off", help="Train the reference without noise as well, after.")
    ] = False,
    references: Annotated[
        Path | None,
        typer.Option(
            help="Run no federation: measure what the demo compares itself with, into this file."
        ),
    ] = None,
) -> None:
    """Train one shared model at three hospitals, each with its own privacy budget.

    craftsfl -q demo shows only the results. The processes log to DIR/logs
    either way.
    """
    from craftsfl.demo.run import measure_once, run_demo
    from craftsfl.demo.workspace import DemoOptions

    if references is not None:
        measure_once(directory, references)
        return
    run_demo(
        DemoOptions(
            directory,
            data,
            rounds,
            port,
            quality=True,
            mode=mode.value,
            browser=browser,
            noise_off=noise_off,
        )
    )

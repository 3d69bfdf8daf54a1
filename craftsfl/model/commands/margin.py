"""`craftsfl model margin`: the public margin of the structure term."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craftsfl.numbers import LARGEST_SEED


def model_margin(
    block: Annotated[str, typer.Option(help="Block of the UNet, e.g. up_blocks.1.")],
    base: Annotated[
        str | None, typer.Option(help="Digest, folder or hub id; default: the embedded tiny one.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help='Frozen encoder: "tiny", folder or hub id.')
    ] = "tiny",
    folder: Annotated[
        Path | None,
        typer.Option(help="PUBLIC images with metadata (file_name, text); default: drawn tissue."),
    ] = None,
    images: Annotated[int, typer.Option(min=8, help="How many of them.")] = 96,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Of images, timesteps and noise.")
    ] = 0,
) -> None:
    """Measure rho of stage one on public images; print study.toml's stage_two.structure."""
    from craftsfl.model.margin import MarginRequest, report_margin
    from craftsfl.terminal import output

    report_margin(MarginRequest(base, encoder, block, folder, images, seed), output())

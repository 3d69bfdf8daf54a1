"""`craftsfl model install`: a base in this machine's cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def install(
    folder: Annotated[Path, typer.Argument(help="A diffusers pipeline folder.")],
) -> None:
    """Put a base into this machine's model cache and print the digest for study.toml."""
    from model.cache import install_base

    typer.echo(install_base(folder))

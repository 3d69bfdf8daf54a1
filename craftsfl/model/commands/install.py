"""`craftsfl model install`: a base in this machine's cache."""

from __future__ import annotations

from typing import Annotated

import typer


def model_install(
    source: Annotated[
        str, typer.Argument(help="A diffusers pipeline's folder, or a name on the hub.")
    ],
    encoder: Annotated[
        bool,
        typer.Option("--encoder", help="It is a frozen encoder; goes into the hub's own cache."),
    ] = False,
) -> None:
    """Put a base into this machine's model cache and print the digest for study.toml.

    The only command that downloads from a hub. Run it as the user who runs
    the agent, since the caches belong to that user.
    """
    if encoder:
        from model.encoders.files import find_encoder

        typer.echo(find_encoder(source, online=True).digest())
        return
    from model.cache import install_base, locate_base

    typer.echo(install_base(locate_base(source)))

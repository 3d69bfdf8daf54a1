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

    Run it as the user who runs the agent, since the caches belong to that user:
    the agent itself never downloads.
    """
    if encoder:
        from model.encoders.files import check_encoder, find_encoder

        found = find_encoder(source, online=True)
        check_encoder(found)
        typer.echo(found.digest())
        return
    from model.cache import install_base, locate_base

    typer.echo(install_base(locate_base(source)))

"""`craftsfl model install`: a base in this machine's cache."""

from __future__ import annotations

from typing import Annotated

import typer


def model_install(
    source: Annotated[
        str, typer.Argument(help="A diffusers pipeline's folder, or a name on the hub.")
    ],
    encoder: Annotated[
        bool, typer.Option("--encoder", help="It is a frozen encoder, into the hub's own cache.")
    ] = False,
) -> None:
    """Put a base into this machine's model cache and print the digest for study.toml.

    The one command that asks a hub. Type it as the user who runs the agent: caches are that user's.
    """
    if encoder:
        from model.encoders.files import find_encoder

        typer.echo(find_encoder(source, online=True).digest())
        return
    from model.cache import install_base, locate_base

    typer.echo(install_base(locate_base(source)))

"""`craftsfl site`: what a hospital types."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="A hospital: run its site agent and SuperNode.", no_args_is_help=True)


class Part(StrEnum):
    """The two processes of a site, for two users or two containers."""

    AGENT = "agent"
    SUPERNODE = "supernode"


@app.callback()
def group() -> None:
    """A hospital: run its site agent and SuperNode."""


@app.command()
def serve(
    settings: Annotated[Path, typer.Argument(help="The site's settings, site.toml.")],
    only: Annotated[
        Part | None, typer.Option(help="Run one of the two processes (two users, two containers).")
    ] = None,
) -> None:
    """Serve this hospital: the agent with data and keys, the SuperNode with the network.

    The agent opens no network connection; the SuperNode sees no data. Both end on Ctrl-C.
    """
    if only is Part.AGENT:
        from client.agent.__main__ import run_agent

        raise typer.Exit(run_agent(settings))
    from craftsfl.serving import serve_site

    serve_site(settings, supernode_only=only is Part.SUPERNODE)

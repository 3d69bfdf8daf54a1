"""`craftsfl rounds`: the commands of a consortium's operator."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from craftsfl.rounds import roster_commands as roster

app = typer.Typer(
    help="The consortium: serve, start and watch rounds.",
    no_args_is_help=True,
    suggest_commands=False,
)
app.add_typer(roster.app, name="roster")

_Settings = Annotated[Path, typer.Argument(help="The consortium's settings, consortium.toml.")]


class CoordinatorProcess(StrEnum):
    """The two processes of a coordinator."""

    SUPERLINK = "superlink"
    SUPEREXEC = "superexec"


@app.command("serve")
def rounds_serve(
    settings: _Settings,
    only: Annotated[
        CoordinatorProcess | None, typer.Option(help="Run only one of the two processes.")
    ] = None,
) -> None:
    """Serve the coordinator: SuperLink and SuperExec. Both end on Ctrl-C.

    craftsfl -q rounds serve reports only restarts; craftsfl -v rounds serve
    also shows each process's command line. Their log files are the same
    either way.
    """
    from craftsfl.rounds.serving import serve_consortium

    serve_consortium(settings, only=only.value if only else None)


@app.command("register")
def rounds_register(
    settings: _Settings,
    public_key: Annotated[Path, typer.Argument(help="A hospital's SuperNode key, NAME.pub.")],
) -> None:
    """Admit a hospital's SuperNode by its public key."""
    from craftsfl.rounds.operator import register_site

    typer.echo(f"Admitted as node {register_site(settings, public_key)}.")


@app.command("accept-ledger")
def rounds_accept_ledger(
    settings: _Settings,
    site: Annotated[str, typer.Argument(help="The site's name in studies.")],
    ledger: Annotated[
        str, typer.Argument(help="The id of its new ledger, read out over the phone.")
    ],
) -> None:
    """Accept a new ledger from a site that has lost its old one."""
    from server.acceptance import accept_at_server

    typer.echo(accept_at_server(settings, site, ledger))


@app.command("start")
def rounds_start(
    settings: _Settings,
    wait: Annotated[bool, typer.Option(help="Show progress until the run ends.")] = True,
) -> None:
    """Start the study's run on the SuperLink; it waits for the sites, then trains.

    craftsfl -q rounds start waits for the end without showing progress.
    """
    from craftsfl.rounds.operator import start_run, watch_run

    run = start_run(settings)
    typer.echo(f"Run {run} started.")
    if wait:
        watch_run(settings, run)


@app.command("status")
def rounds_status(
    settings: _Settings,
    run: Annotated[int | None, typer.Option(help="A run id; the latest run if left out.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show a run: its rounds, who took part, who dropped out and why."""
    from craftsfl.rounds.operator import show_status

    show_status(settings, run, as_json=json)


@app.command("track")
def rounds_track(settings: _Settings) -> None:
    """Log to MLflow what it missed of ended runs, for example while its server was down.

    The next run does the same by itself. It may be repeated: nothing is logged
    twice. A run that was deleted in MLflow stays deleted.
    """
    from craftsfl.rounds.tracking import track_runs

    track_runs(settings)

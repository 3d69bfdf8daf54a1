"""`craftsfl rounds`: the commands of a consortium's operator."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from craftsfl.rounds import roster_commands as roster
from craftsfl.rounds.first_commands import rounds_add, rounds_init, rounds_renew
from craftsfl.rounds.plan_command import rounds_plan
from craftsfl.rounds.release_commands import rounds_export, rounds_promote, rounds_rollback

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


app.command("init")(rounds_init)
app.command("add")(rounds_add)
app.command("renew")(rounds_renew)
app.command("plan")(rounds_plan)
app.command("promote")(rounds_promote)
app.command("rollback")(rounds_rollback)
app.command("export")(rounds_export)


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


@app.command("key")
def rounds_key(
    file: Annotated[Path, typer.Argument(help="Where to keep it: a new file, mode 0600.")],
) -> None:
    """Make the coordinator's own key, which signs the steps of pooled studies."""
    from server.own_key import make_coordinator_key

    public = make_coordinator_key(file)
    typer.echo(f'In study.toml, below [pooled]: coordinator_key = "{public.hex()}"')
    typer.echo("In consortium.toml: coordinator_key = the path of this file")


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
    after: Annotated[
        int, typer.Option(help="Number the run above this one, which a site knows.", min=0)
    ] = 0,
) -> None:
    """Start the study's next run; it waits for the sites, then trains.

    Study, roster and base are checked first, and a second run of a study
    whose run is open is refused. craftsfl rounds serve starts a run again
    that was interrupted. craftsfl -q rounds start waits for the end without
    showing progress; Ctrl-C leaves the run alone.
    """
    from craftsfl.rounds.operator import awaited_signatures, start_run
    from craftsfl.rounds.watching import watch_run

    run = start_run(settings, after)
    typer.echo(f"Run {run} started. {awaited_signatures(settings)}".strip())
    if wait:
        watch_run(settings, run)


_Run = Annotated[int | None, typer.Option(help="A run's number; the newest run if left out.")]


@app.command("status")
def rounds_status(
    settings: _Settings,
    run: _Run = None,
    every: Annotated[bool, typer.Option("--all", help="Add a table of every attempt.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a picture.")] = False,
) -> None:
    """Show a run: a picture of rounds by sites, who dropped out and why."""
    from craftsfl.rounds.watching import show_status

    show_status(settings, run, as_json=json, every=every)


@app.command("backup")
def rounds_backup(
    settings: _Settings,
    folder: Annotated[Path, typer.Argument(help="Where to: a new folder, on another disk.")],
) -> None:
    """Copy the round state and the SuperLink's database, also while a run is under way.

    docs/operator.md says how a copy is put back, and what the sites refuse of an
    old one.
    """
    from craftsfl.rounds.backup import back_up, told

    for line in told(back_up(settings, folder)):
        typer.echo(line)


@app.command("track")
def rounds_track(settings: _Settings) -> None:
    """Log to MLflow what it missed of ended runs, for example while its server was down.

    The next run does the same by itself. It may be repeated: nothing is logged
    twice. A run that was deleted in MLflow stays deleted.
    """
    from craftsfl.rounds.tracking import track_runs

    track_runs(settings)


@app.command("watch")
def rounds_watch(settings: _Settings, run: _Run = None) -> None:
    """Show a run from its beginning, and go on until it ends. Ctrl-C leaves it alone."""
    from craftsfl.rounds.watching import watch_run

    watch_run(settings, run)


@app.command("pause")
def rounds_pause(settings: _Settings) -> None:
    """Begin no new attempt at a round; one that is under way ends first.

    A paused run costs the sites nothing, and stays paused if a process of
    the coordinator or the machine is restarted.
    """
    from craftsfl.rounds.operator import ask_run
    from server.tables import Wish

    typer.echo(ask_run(settings, Wish.PAUSE))


@app.command("resume")
def rounds_resume(settings: _Settings) -> None:
    """Go on with a paused run."""
    from craftsfl.rounds.operator import ask_run
    from server.tables import Wish

    typer.echo(ask_run(settings, Wish.RUN))


@app.command("stop")
def rounds_stop(
    settings: _Settings,
    now: Annotated[
        bool, typer.Option("--now", help="Do not let the attempt under way end.")
    ] = False,
) -> None:
    """End the open run for good.

    The attempt under way ends first, since the sites have paid for it or are
    about to; with --now it is lost. Finished rounds' adapters are kept, and
    the study's next run begins at round 1.
    """
    from craftsfl.rounds.operator import ask_run
    from server.tables import Wish

    typer.echo(ask_run(settings, Wish.STOP_NOW if now else Wish.STOP))

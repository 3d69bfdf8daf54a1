"""`craftsfl site status` and what else belongs to the desk, as it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craftsfl.site.site_file import SiteFile

_Settings = Annotated[Path, typer.Argument(help="The site's settings, site.toml.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]


def site_status(settings: _Settings, json: _Json = False) -> None:
    """Show what the agent does, what is left of the budget, and what was refused last.

    It works while the agent is down, and says so.
    """
    from craftsfl.site.desk.status import show_site_status

    show_site_status(settings, as_json=json)


def site_pause(settings: SiteFile) -> None:
    """Begin no new attempt, also after a restart; an open one ends as ever."""
    from craftsfl.site.desk.wishes import pause

    typer.echo(pause(settings))


def site_resume(settings: SiteFile) -> None:
    """Take part again, after pause or leave."""
    from craftsfl.site.desk.wishes import resume

    typer.echo(resume(settings))


def site_leave(settings: SiteFile) -> None:
    """Leave the study after the open attempt, and hear what stays."""
    from craftsfl.site.desk.wishes import leave

    typer.echo(leave(settings))


def site_reload(settings: SiteFile) -> None:
    """Let an edited policy.toml take effect without ending the agent.

    The files are checked first; with a mistake in them nothing changes.
    """
    from craftsfl.site.desk.wishes import reload

    typer.echo(reload(settings))


def site_log(
    settings: SiteFile,
    last: Annotated[int, typer.Option(help="How many records, the newest.", min=1)] = 40,
    head: Annotated[
        str, typer.Option(help="A record noted earlier, NUMBER:HASH: is it still there?")
    ] = "",
    json: _Json = False,
) -> None:
    """Show what the coordinator asked of this site, when, and what was refused why.

    Every record is signed and follows from the one before; a change shows.
    """
    from craftsfl.site.desk.log import show_log

    show_log(settings, last=last, head=head, as_json=json)


def site_systemd(
    settings: _Settings,
    folder: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for the two unit files.")
    ] = Path(),
) -> None:
    """Write two systemd units: the agent without a network, the gateway without data.

    site.toml has to name two users and their socket. Nothing is installed;
    where systemd-analyze exists, it checks what was written.
    """
    import sys

    from craftsfl.site.systemd import write_units

    typer.echo(write_units(settings, folder, Path(sys.executable).with_name("craftsfl")))


def site_doctor(
    settings: _Settings,
    bundle: Annotated[
        Path | None,
        typer.Option(help="Write the facts for support to this new file, once you have seen them."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Write the bundle without being asked.")
    ] = False,
) -> None:
    """Say what is alive, which files may be deleted, and whom to ask about what.

    --bundle shows every fact for support before it writes them: versions,
    states and ids of closed lists, and no name, path or figure of a patient.
    """
    from craftsfl.site.desk.doctor import show_doctor, write_bundle

    facts = show_doctor(settings)
    if bundle is not None and (yes or typer.confirm(f"Write exactly this to {bundle}?")):
        write_bundle(bundle, facts)
        typer.echo(f"Written: {bundle}.")

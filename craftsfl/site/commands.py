"""`craftsfl site`: the commands of a hospital."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from craftsfl.site.check_commands import site_check
from craftsfl.site.desk_commands import (
    site_doctor,
    site_leave,
    site_log,
    site_pause,
    site_reload,
    site_resume,
    site_status,
    site_systemd,
)
from craftsfl.site.joining.commands import site_card, site_init, site_join
from craftsfl.site.memorisation.command import site_memorisation
from craftsfl.site.person_commands import PatientId, site_merge, site_separate, site_suspicions
from craftsfl.site.site_file import SiteFile
from craftsfl.site.tile_command import site_tile

_ONE_USER = "--one-user-no-airlock"
app = typer.Typer(
    help="A hospital: run its site agent and gateway.",
    no_args_is_help=True,
    suggest_commands=False,
)


app.command("init")(site_init)
app.command("join")(site_join)


class SitePart(StrEnum):
    """The two processes of a site, for two users or two containers."""

    AGENT = "agent"
    GATEWAY = "gateway"


@app.command("serve")
def site_serve(
    settings: Annotated[Path, typer.Argument(help="The site's settings, site.toml.")],
    only: Annotated[
        SitePart | None,
        typer.Option(help="Run only one of the two processes (two users, two containers)."),
    ] = None,
    one_user: Annotated[
        bool,
        typer.Option(
            _ONE_USER,
            help="Run both as this user: whoever takes over the gateway can then read data and "
            "keys. For synthetic or public data only.",
        ),
    ] = False,
) -> None:
    """Serve this hospital: the agent with data and keys, the gateway with the network.

    They run as two users: start it as root, and each part becomes the user
    that site.toml names; or start each part as its own user, with --only.
    The agent has no network; the gateway sees no data. Both end on Ctrl-C.

    craftsfl -q site serve reports only restarts, not the agent's phases;
    craftsfl -v site serve also shows each process's command line. Their log
    files are the same either way.
    """
    if only is SitePart.AGENT:
        from craftsfl.processes.agent_command import serve_agent

        serve_agent(settings, one_user=one_user)
    from craftsfl.site.serving import serve_site

    serve_site(settings, gateway_only=only is SitePart.GATEWAY, one_user=one_user)


@app.command("withdraw")
def site_withdraw(
    settings: SiteFile,
    patient: PatientId = None,
    ahead: Annotated[
        bool, typer.Option("--ahead", help="No agent has read this patient's tiles here yet.")
    ] = False,
) -> None:
    """Take a patient out of all draws, starting with the next; the agent may be running."""
    from client.consent import withdraw

    done = withdraw(settings, patient or _asked(), ahead=ahead)
    known = "what the agent has charged" if done.epsilon is None else f"epsilon {done.epsilon:.3g}"
    typer.echo(
        f"Patient {done.name} {'had already withdrawn' if done.already else 'has withdrawn'}: out "
        "of all draws, starting with the next.\n"
        f"Encoded tiles were deleted ({done.files} files); the next start encodes the others "
        "again. Deleting the tiles in the data folder is up to you.\n"
        f"What was used of this patient's budget stays used: {known}. What the model has learnt "
        "stays in it, bounded by the budget. None of this is visible to others."
    )
    if done.sharing:
        typer.echo(
            f"Pictures of this patient also appear under {len(done.sharing)} other ids, which "
            f"still take part: {', '.join(done.sharing)}. Whether they are the same person is for "
            "you to decide: craftsfl site suspicions --list shows the ids, craftsfl site merge "
            "joins them."
        )
    if done.unsaid:
        typer.echo(
            f"The patient is out, but something else needs your attention:\n{done.unsaid}", err=True
        )
        raise typer.Exit(1)


@app.command("restore")
def site_restore(
    settings: SiteFile,
    patient: PatientId = None,
) -> None:
    """Undo `withdraw`: the patient takes part again once the agent has been restarted."""
    from client.consent import restore

    name, changed = restore(settings, patient or _asked())
    typer.echo(
        f"Patient {name} takes part again once the agent has been restarted."
        if changed
        else f"Patient {name} had not withdrawn; nothing was changed."
    )


def _asked() -> str:
    from craftsfl.passphrase import asked_unseen

    return asked_unseen("patient_id", ", or give the id as an argument, which others may see")


@app.command("migrate-ledger")
def site_migrate_ledger(
    settings: SiteFile,
    first: Annotated[
        bool, typer.Option("--first", help="This identity has never had a ledger anywhere.")
    ] = False,
) -> None:
    """Bind the ledger to this site's identity, once; keeps a copy of the file as it was."""
    from craftsfl.site.ledger import migration_report

    typer.echo(migration_report(settings, first=first))


@app.command("recover-ledger")
def site_recover_ledger(
    settings: SiteFile,
    lost: Annotated[
        bool,
        typer.Option(
            "--no-copy-of-the-ledger-is-left",
            help="The only reason for this command; never use it to save work.",
        ),
    ] = False,
    seen: Annotated[
        int | None,
        typer.Option(
            "--others-have-seen",
            help="There is a copy, but an older one: so many records the consortium's log holds, "
            "as the agent's log says. Join the newest study first.",
            min=1,
        ),
    ] = None,
) -> None:
    """Start a new ledger to replace a lost one; whatever is known to be spent stays spent."""
    from craftsfl.site.ledger import recovery_report
    from privacy.errors import ConfigError

    if not lost:
        raise ConfigError(
            "A new ledger is the last resort: nothing was changed.",
            "Restore the latest backup of the whole state folder instead. Only if there is none, "
            "repeat this with --no-copy-of-the-ledger-is-left.",
        )
    typer.echo(recovery_report(settings, seen))


@app.command("accept-ledger")
def site_accept_ledger(
    settings: SiteFile,
    site: Annotated[str, typer.Argument(help="The other site's name in studies.")],
    ledger: Annotated[
        str, typer.Argument(help="The id of its new ledger, read out over the phone.")
    ],
) -> None:
    """Accept a new ledger from another site that has lost its old one."""
    from client.agent.witness import accept_at_site

    typer.echo(accept_at_site(settings, site, ledger))


@app.command("accept-log")
def site_accept_log(
    settings: SiteFile,
    lost: Annotated[
        bool,
        typer.Option(
            "--the-log-was-lost",
            help="The operator has said on the phone that entries of the log are lost.",
        ),
    ] = False,
) -> None:
    """Accept a log that does not continue the one that this site has cosigned."""
    from client.agent.log_file import accept_log_at_site
    from privacy.errors import ConfigError

    if not lost:
        raise ConfigError(
            "A log that goes back is what this site is there to refuse: nothing was changed.",
            "Call the operator and another site. If entries are lost: repeat this with "
            "--the-log-was-lost.",
        )
    typer.echo(accept_log_at_site(settings))


@app.command("budget")
def site_budget(
    settings: SiteFile,
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw the use of the budget over time, as an SVG or PNG file."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Explain what epsilon means, for an ethics board.")
    ] = False,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish", help="Add the epsilon of the whole study, if two accountants agree."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show how much of the patients' privacy budget is used and left; the agent may be running."""
    from craftsfl.site.budget.command import BudgetOptions, show_budget

    options = BudgetOptions(picture=picture, explain=explain, publish=publish, as_json=json)
    show_budget(settings, options)


app.command("check")(site_check)
app.command("status")(site_status)
app.command("pause")(site_pause)
app.command("resume")(site_resume)
app.command("leave")(site_leave)
app.command("reload")(site_reload)
app.command("log")(site_log)
app.command("doctor")(site_doctor)
app.command("systemd")(site_systemd)
app.command("card")(site_card)


@app.command("hand-over")
def site_hand_over(
    settings: SiteFile,
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write.")],
) -> None:
    """Hand the ledger and a signed word on the budget over to an auditor.

    The file holds no patient's data and no key: records of what was
    charged, for all studies, and the limits of policy.toml. The coordinator
    puts it into a bundle with the other sites': craftsfl audit export.
    """
    from craftsfl.site.hand_over import write_hand_over

    made = write_hand_over(settings, out)
    typer.echo(f"{out}: what the site {made.site} hands over, {out.stat().st_size} bytes.")


app.command("tile")(site_tile)
app.command("suspicions")(site_suspicions)
app.command("memorisation")(site_memorisation)
app.command("merge")(site_merge)
app.command("separate")(site_separate)

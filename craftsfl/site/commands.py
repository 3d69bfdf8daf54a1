"""`craftsfl site`: what a hospital types."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from craftsfl.site import person_commands as persons

ONE_USER = "--one-user-no-airlock"
app = typer.Typer(help="A hospital: run its site agent and SuperNode.", no_args_is_help=True)


class Part(StrEnum):
    """The two processes of a site, for two users or two containers."""

    AGENT = "agent"
    SUPERNODE = "supernode"


@app.callback()
def group() -> None:
    """A hospital: run its site agent and SuperNode."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Where the keys go and stay.")],
    name: Annotated[
        str, typer.Option(help="The site's name in studies: small letters, digits, hyphens.")
    ],
    organisation: Annotated[
        str, typer.Option(help="How people call the hospital; the name if left out.")
    ] = "",
    passphrase: Annotated[
        bool,
        typer.Option("--passphrase", help="Encrypt the identity key; the agent then needs it."),
    ] = False,
) -> None:
    """Make this hospital's keys: its identity among the others, and its SuperNode's."""
    from client.site_init import init_site
    from craftsfl.processes.flower.credentials import make_supernode_key

    secret = _new_passphrase() if passphrase else None
    keys = init_site(folder, name, make_supernode_key, organisation=organisation, passphrase=secret)
    typer.echo(
        f"Private, mode 0600, never to be sent: {keys.identity} (who you are; keep a backup) and "
        f"{keys.supernode} (the way to the coordinator).\n\n"
        f"Send {keys.card} to whoever proposes the roster, and {keys.supernode_public} to the "
        "operator.\n"
        "Your key's fingerprint, to be read out on the phone, never taken from a mail:\n\n"
        f"    {keys.fingerprint}\n\n"
        "Next: sign the roster (craftsfl rounds roster sign), then name key and roster in the "
        "[identity] table of site.toml" + (", with passphrase_file." if secret else ".")
    )


def _new_passphrase() -> bytes:
    from craftsfl.rounds.roster import PASSPHRASE

    given = os.environ.get(PASSPHRASE, "")
    if not given:
        given = typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True)
    return str(given).encode()


@app.command()
def serve(
    settings: Annotated[Path, typer.Argument(help="The site's settings, site.toml.")],
    only: Annotated[
        Part | None, typer.Option(help="Run one of the two processes (two users, two containers).")
    ] = None,
    one_user: Annotated[
        bool,
        typer.Option(
            ONE_USER,
            help="Both as this user: the coordinator's code can then read data and keys. For "
            "synthetic or public data only.",
        ),
    ] = False,
) -> None:
    """Serve this hospital: the agent with data and keys, the SuperNode with the network.

    As two users: started by root, who gives them to the parts as site.toml says, or one part each
    with --only. The agent has no network; the SuperNode sees no data. Both end on Ctrl-C.
    """
    if only is Part.AGENT:
        from craftsfl.processes.agent_command import serve_agent

        serve_agent(settings, one_user=one_user)
    from craftsfl.site.serving import serve_site

    serve_site(settings, supernode_only=only is Part.SUPERNODE, one_user=one_user)


_Patient = Annotated[
    str | None,
    typer.Argument(
        help="The patient_id of the metadata. Left out, it is asked for: then it stands in no "
        "shell history and no list of processes.",
        show_default=False,
    ),
]


@app.command()
def withdraw(
    settings: Annotated[Path, typer.Argument(help="The site's settings, site.toml.")],
    patient: _Patient = None,
    ahead: Annotated[
        bool, typer.Option("--ahead", help="The patient's tiles were never read here yet.")
    ] = False,
) -> None:
    """Take a patient out of every draw from the next one on; the agent may be running."""
    from client.consent import withdraw as take_out

    done = take_out(settings, patient or _asked(), ahead=ahead)
    known = "what the agent has charged" if done.epsilon is None else f"epsilon {done.epsilon:.3g}"
    typer.echo(
        f"Patient {done.name} {'had withdrawn already' if done.already else 'has withdrawn'}: out "
        "of every draw from the next one on.\n"
        f"Encoded tiles were deleted ({done.files} files); the next start encodes the others anew. "
        "The tiles in the data folder are yours to delete.\n"
        f"What was used of this patient's budget stays used: {known}. What the model has learnt "
        "stays in it, bounded by the budget. Nothing of this shows outside."
    )
    if done.sharing:
        typer.echo(
            f"Pictures of this patient stand under {len(done.sharing)} other ids too, which go on "
            f"taking part: {', '.join(done.sharing)}. Whether they are this person, you decide: "
            "craftsfl site suspicions --list tells which ids, craftsfl site merge makes them one."
        )
    if done.unsaid:
        typer.echo(f"The patient is out, but something else needs you:\n{done.unsaid}", err=True)
        raise typer.Exit(1)


@app.command()
def restore(
    settings: Annotated[Path, typer.Argument(help="The site's settings, site.toml.")],
    patient: _Patient = None,
) -> None:
    """Undo `withdraw`: the patient takes part again once the agent was started anew."""
    from client.consent import restore as take_in

    name, changed = take_in(settings, patient or _asked())
    typer.echo(
        f"Patient {name} takes part again once the agent was started anew."
        if changed
        else f"Patient {name} had not withdrawn; nothing was changed."
    )


def _asked() -> str:
    return str(typer.prompt("patient_id", hide_input=True))


@app.command(name="migrate-ledger")
def migrate_ledger(
    settings: Annotated[Path, typer.Argument(help="The site's settings, site.toml.")],
    first: Annotated[
        bool, typer.Option("--first", help="This identity never had a ledger anywhere.")
    ] = False,
) -> None:
    """Bind the ledger to this site's identity, once; a copy of the file as it was is kept."""
    from craftsfl.site.ledger import migration_report

    typer.echo(migration_report(settings, first=first))


@app.command(name="recover-ledger")
def recover_ledger(
    settings: Annotated[Path, typer.Argument(help="The site's settings, site.toml.")],
    lost: Annotated[
        bool,
        typer.Option(
            "--no-copy-of-the-ledger-is-left", help="What this command is for; never to save work."
        ),
    ] = False,
) -> None:
    """Begin a ledger in the place of a lost one; what is known to be spent stays spent."""
    from craftsfl.site.ledger import recovery_report

    if not lost:
        typer.echo(
            "Restore the newest backup of the whole state folder instead. Only if there is none, "
            "once more with --no-copy-of-the-ledger-is-left.",
            err=True,
        )
        raise typer.Exit(1)
    typer.echo(recovery_report(settings))


@app.command(name="accept-ledger")
def accept_ledger(
    settings: Annotated[Path, typer.Argument(help="The site's settings, site.toml.")],
    site: Annotated[str, typer.Argument(help="The other site's name in studies.")],
    ledger: Annotated[str, typer.Argument(help="Its new ledger's id, read out on the phone.")],
) -> None:
    """Take another site's new ledger, which it began in the place of a lost one."""
    from client.agent.witness import accept_at_site

    typer.echo(accept_at_site(settings, site, ledger))


@app.command()
def budget(
    settings: Annotated[Path, typer.Argument(help="The site's settings, site.toml.")],
    picture: Annotated[
        Path | None,
        typer.Option(help="Draw the budget's use over time into this SVG or PNG file."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what epsilon means, for an ethics board.")
    ] = False,
    publish: Annotated[
        bool,
        typer.Option("--publish", help="Add the whole study's epsilon, if two accountants agree."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what is used of the patients' privacy budget and what is left; the agent may run."""
    from craftsfl.site.budget.command import BudgetOptions, show_budget

    options = BudgetOptions(picture=picture, explain=explain, publish=publish, as_json=json)
    show_budget(settings, options)


app.command()(persons.suspicions)
app.command()(persons.merge)
app.command()(persons.separate)

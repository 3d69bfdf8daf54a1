"""`craftsfl site init`, `join` and `card`, as they are typed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from craftsfl.site.site_file import SiteFile, as_agents_user

_Organisation = Annotated[
    str, typer.Option(help="What people call the hospital; the name if left out.")
]


def site_init(
    folder: Annotated[
        Path, typer.Argument(help="The hospital's folder, where its keys stay: a new one.")
    ],
    name: Annotated[
        str, typer.Option(help="The site's name in studies: lower-case letters, digits, hyphens.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="The folder with the tiles; tiles in the hospital's folder if left out."),
    ] = None,
    organisation: _Organisation = "",
    passphrase: Annotated[
        bool,
        typer.Option(
            "--passphrase", help="Encrypt the identity key with one; the agent then needs it."
        ),
    ] = False,
    agent_user: Annotated[
        str, typer.Option(help="For two users: as whom the agent runs, the owner of data and keys.")
    ] = "",
    gateway_user: Annotated[
        str, typer.Option(help="For two users: as whom the gateway runs, who may open neither.")
    ] = "",
) -> None:
    """Make this hospital's keys, its site.toml, and the card that the operator is sent.

    A folder that has keys is left as it is. For two users, root runs this: it
    gives every file to its user.
    """
    from craftsfl.passphrase import new_passphrase
    from craftsfl.site.joining.own_files import SITE_TOML, SiteDraft, make_site
    from privacy.errors import ConfigError

    if bool(agent_user) != bool(gateway_user) or (agent_user and agent_user == gateway_user):
        raise ConfigError(
            "Two users are two names.", "Give --agent-user and --gateway-user, or neither."
        )
    users = (agent_user, gateway_user) if agent_user else None
    secret = new_passphrase() if passphrase else None
    keys = make_site(SiteDraft(folder, name, organisation, data, secret, users))
    if data is not None and not data.is_dir():
        what = "a file" if data.exists() else "no folder yet"
        typer.echo(
            f"{data} is {what}: put the tiles there before you join, or correct the path in "
            f"{folder / SITE_TOML}.\n"
        )
    if users is not None:
        _say_what_is_open(folder / SITE_TOML)
    typer.echo(
        f"Private (mode 0600), never send them: {keys.identity} (who you are; keep a backup) and "
        f"{keys.supernode} (the way to the coordinator).\n\n"
        "Your key's fingerprint, to be read out over the phone, never taken from an e-mail:\n\n"
        f"    {keys.fingerprint}\n\n"
        f"Next: send {keys.card} to the operator; with the invitation that comes back: craftsfl "
        f"site join {shlex.quote(str(folder / SITE_TOML))} INVITATION"
        + (
            ". The agent needs the passphrase: name its file, passphrase_file, in the [identity] "
            "table of site.toml."
            if secret
            else ""
        )
    )


def _say_what_is_open(settings: Path) -> None:
    """What would be refused when the hospital serves: the tiles were there before."""
    from client.settings import load_site
    from craftsfl.site.airlock import two_users
    from privacy.errors import CraftsflError

    try:
        two_users(load_site(settings), make=False)
    except CraftsflError as error:
        typer.echo(f"Before you serve: {error.message} {error.hint}\n")


def site_card(settings: SiteFile, organisation: _Organisation = "") -> None:
    """Write the card again, for instance of keys that an earlier version made."""
    from craftsfl.site.joining.own_files import card_again

    typer.echo(f"Send {card_again(settings, organisation)} to the operator.")


def site_join(
    settings: Annotated[Path, typer.Argument(help="The site's settings, site.toml.")],
    invitation: Annotated[Path, typer.Argument(help="The file that the operator has sent.")],
    expect_fingerprint: Annotated[
        str,
        typer.Option(
            help="The invitation's fingerprint, from the phone; if left out, you are asked for it."
        ),
    ] = "",
    lifetime_epsilon: Annotated[
        float | None,
        typer.Option(
            help="The budget of all studies together; if left out, what is proposed, or what was "
            "decided before.",
            min=0.0,
        ),
    ] = None,
    patient_ids_confirmed: Annotated[
        bool,
        typer.Option("--patient-ids-confirmed", help="Each patient_id names one person."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Answer every question with yes.")] = False,
) -> None:
    """Join a study: see who invites you and what it costs, compare, decide, sign.

    Shows what is signed and what the whole study costs a patient, sizes
    policy.toml for it, and asks. Nothing is kept or signed before the yes, and
    nothing if the invitation's fingerprint is not the one from the phone.
    """
    from craftsfl.site.joining.join import JoinDesk, JoinOptions, join_study
    from privacy.accounting.bounds import MAX_EPSILON
    from privacy.errors import ConfigError
    from privacy.study.invitation import read_invitation

    if lifetime_epsilon is not None and not 0 < lifetime_epsilon <= MAX_EPSILON:
        raise ConfigError(
            f"--lifetime-epsilon {lifetime_epsilon:g} is no budget.",
            f"Give one above 0, at most {MAX_EPSILON:g}; or leave it out, and one is proposed.",
        )
    if yes and not expect_fingerprint:
        raise ConfigError(
            "--yes joins what nobody has compared.",
            "Give the invitation's fingerprint, from the phone: --expect-fingerprint.",
        )
    read = read_invitation(invitation)  # as whoever has it: root's may lie in root's own folder
    settings = as_agents_user(settings)
    options = JoinOptions(read, expect_fingerprint, lifetime_epsilon, patient_ids_confirmed)
    desk = JoinDesk(typer.echo, (lambda _: True) if yes else _confirmed, typer.prompt, scripted=yes)
    try:
        joined = join_study(settings, options, desk)
    except typer.Abort:
        raise ConfigError(
            "It was not answered: nothing was changed.",
            "Run this in a terminal. A script gives --yes, --expect-fingerprint with the digits "
            "from the phone, and --patient-ids-confirmed where a person has looked at the ids.",
        ) from None
    if not joined:
        raise typer.Exit(1)
    typer.echo(f"Joined. Next: {_next(settings)}")


def _next(settings: Path) -> str:
    """How the study begins here: an agent that runs goes on with the one before until then."""
    from client.agent.state import StateFolder, lock_is_held
    from client.settings import load_site

    if lock_is_held(StateFolder(load_site(settings).agent.state).agent_lock):
        return f"craftsfl site reload {shlex.quote(str(settings))}, since this site serves already"
    return f"craftsfl site serve {shlex.quote(str(settings))}"


def _confirmed(question: str) -> bool:
    return typer.confirm(question)

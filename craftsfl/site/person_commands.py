"""`craftsfl site suspicions`, `merge` and `separate`, as they are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from privacy.errors import ConfigError

_Settings = Annotated[Path, typer.Argument(help="The site's settings, site.toml.")]
_Id = Annotated[
    str | None,
    typer.Argument(
        help="A patient_id of the metadata. Left out, it is asked for: then it stands in no shell "
        "history and no list of processes.",
        show_default=False,
    ),
]


def suspicions(
    settings: _Settings,
    list_ids: Annotated[
        Path | None,
        typer.Option("--list", help="Write which ids they are to this new file, mode 0600."),
    ] = None,
) -> None:
    """Say what speaks against the patient ids, and who shares pictures; changes nothing."""
    from client.persons import suspicions as look
    from client.persons import write_list

    found = look(settings)
    if list_ids is not None:
        write_list(list_ids, found)
    about = f"{found.doubt}." if found.doubt else "nothing speaks against their being patients'."
    typer.echo(
        f"{found.patients} patients in the table; {found.left_out} entries cannot be used.\n"
        f"Their ids: {about}\n"
        f"Pictures that stand under several ids: {found.groups} sets of patients, "
        f"{found.sharing} patients in them, {found.withdrawn} of those withdrew."
    )
    if found.automatic:
        typer.echo(
            f"Made one by an earlier version because of a shared picture: {found.automatic} ids. "
            "Where that was no reason: craftsfl site separate."
        )
    if found.groups or found.automatic:
        typer.echo(
            "Which ids: --list FILE. One person with two ids is protected less than one with one: "
            "craftsfl site merge. Pictures decide nothing by themselves."
        )


def merge(
    settings: _Settings,
    first: _Id = None,
    second: _Id = None,
    pairs: Annotated[
        Path | None, typer.Option(help="A CSV file of such pairs, two ids a line, no header.")
    ] = None,
) -> None:
    """Make two ids one person from the agent's next start on; the register keeps it."""
    from client.persons import merge_ids as join
    from client.persons import read_id_pairs

    if pairs is not None and first is not None:
        raise ConfigError("Ids and a file of pairs were given.", "Give one of the two.")
    wanted = read_id_pairs(pairs) if pairs else [(first or _asked(), second or _asked())]
    made, out = join(settings, wanted)
    typer.echo(
        f"{made} of {len(wanted)} pairs were made one person each, from the next start of the "
        "agent on; the others were already. craftsfl site separate undoes it."
    )
    if out:
        typer.echo(
            f"In {out} of them one of the two had withdrawn: both are out from the next draw on."
        )


def separate(settings: _Settings, patient: _Id = None) -> None:
    """Undo every merging of an id, from the agent's next start on."""
    from client.persons import separate as part

    count = part(settings, patient or _asked())
    typer.echo(
        f"{count} ids stand for themselves from the next start of the agent on."
        if count > 1
        else "This id was merged with no other; nothing was changed."
    )


def _asked() -> str:
    return str(typer.prompt("patient_id", hide_input=True))

"""`craftsfl site suspicions`, `merge` and `separate`, as they are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from craftsfl.site.site_file import SiteFile
from privacy.errors import ConfigError

PatientId = Annotated[
    str | None,
    typer.Argument(
        help="The patient_id in the metadata. If left out, you are prompted for it, which keeps it "
        "out of the shell's history and the list of processes.",
        show_default=False,
    ),
]


def site_suspicions(
    settings: SiteFile,
    list_ids: Annotated[
        Path | None,
        typer.Option("--list", help="Write the ids to this new file, with mode 0600."),
    ] = None,
) -> None:
    """Report doubts about the patient ids, and who shares pictures; changes nothing."""
    from client.persons import suspicions, write_list

    found = suspicions(settings)
    if list_ids is not None:
        write_list(list_ids, found)
    about = f"{found.doubt}." if found.doubt else "nothing suggests that they are not patients'."
    typer.echo(
        f"{found.patients} patients in the table; {found.left_out} entries cannot be used.\n"
        f"Their ids: {about}\n"
        f"Pictures that appear under several ids: {found.groups} sets of patients, "
        f"{found.sharing} patients in them, {found.withdrawn} of whom have withdrawn."
    )
    if found.automatic:
        typer.echo(
            f"Merged by an earlier version because of a shared picture: {found.automatic} ids. "
            "If that was not a good reason: craftsfl site separate."
        )
    if found.groups or found.automatic:
        typer.echo(
            "To see the ids: --list FILE. One person with two ids is protected less than with one: "
            "craftsfl site merge. Pictures alone decide nothing."
        )


def site_merge(
    settings: SiteFile,
    first: PatientId = None,
    second: PatientId = None,
    pairs: Annotated[
        Path | None, typer.Option(help="A CSV file of such pairs: two ids per line, no header.")
    ] = None,
) -> None:
    """Treat two ids as one person from the agent's next start on; the register remembers it."""
    from client.persons import merge_ids, read_id_pairs

    if pairs is not None and first is not None:
        raise ConfigError("Both ids and a file of pairs were given.", "Give one of the two.")
    wanted = read_id_pairs(pairs) if pairs else [(first or _asked(), second or _asked())]
    made, out = merge_ids(settings, wanted)
    typer.echo(
        f"From the agent's next start on, {made} of {len(wanted)} pairs newly count as one person "
        "each; any others already did. craftsfl site separate undoes it."
    )
    if out:
        typer.echo(
            f"In {out} of them, one of the two had withdrawn: both are out from the next draw on."
        )


def site_separate(settings: SiteFile, patient: PatientId = None) -> None:
    """Undo all merges of an id, from the agent's next start on."""
    from client.persons import separate

    count = separate(settings, patient or _asked())
    typer.echo(
        f"{count} ids stand for themselves from the agent's next start on."
        if count > 1
        else "This id was not merged with another; nothing was changed."
    )


def _asked() -> str:
    from craftsfl.passphrase import asked_unseen

    return asked_unseen("patient_id", ", or give the id as an argument, which others may see")

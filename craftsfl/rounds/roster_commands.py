"""`craftsfl rounds roster`: who belongs to the consortium, agreed on without the coordinator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The consortium's signed list of sites and keys, made by exchanging small files.",
    no_args_is_help=True,
    suggest_commands=False,
)

_File = Annotated[Path, typer.Argument(help="The roster file, such as roster.cfl.")]


@app.command("propose")
def roster_propose(
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    cards: Annotated[
        list[Path] | None, typer.Argument(help="The sites' cards, from craftsfl site init.")
    ] = None,
    consortium: Annotated[
        str, typer.Option(help="The consortium's name: for a first roster.")
    ] = "",
    quorum: Annotated[
        int | None, typer.Option(help="How many members have to sign; by default, more than half.")
    ] = None,
    after: Annotated[
        Path | None,
        typer.Option(help="The file of the rosters so far, which this one succeeds."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="A member that leaves; repeatable.")
    ] = None,
) -> None:
    """Propose a roster: the first one, or a successor in which sites join, leave or change keys."""
    from craftsfl.rounds.roster import Proposal, write_proposal

    write_proposal(out, Proposal(cards or (), consortium, quorum, after, without or ()))


@app.command("sign")
def roster_sign(
    file: _File,
    key: Annotated[Path, typer.Option(help="This site's identity key, from site init.")],
    merge: Annotated[
        list[Path] | None,
        typer.Option(help="A copy of this roster with other signatures to include; repeatable."),
    ] = None,
) -> None:
    """Sign the newest roster of the file, after comparing its fingerprint by phone."""
    from craftsfl.rounds.roster import sign_roster

    sign_roster(file, key, merge or ())


@app.command("show")
def roster_show(
    file: _File,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show the newest roster: members, signatures, fingerprints, and the line for study.toml."""
    from craftsfl.rounds.roster import show_roster

    show_roster(file, as_json=json)

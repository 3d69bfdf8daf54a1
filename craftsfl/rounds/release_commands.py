"""`craftsfl rounds promote`, `rollback` and `export`, as they are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_Settings = Annotated[Path, typer.Argument(help="The consortium's settings, consortium.toml.")]
_Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


def rounds_promote(
    settings: _Settings,
    version: Annotated[
        int | None, typer.Option(help="A version in MLflow; the newest if left out.", min=1)
    ] = None,
    yes: _Yes = False,
) -> None:
    """Call a version of the study's adapter its champion, if it shows what the study demands.

    Says what was demanded and found, and which version is champion now, and asks
    before anything is changed. What a study demands is in the table promotion of
    its study.toml; that the run has finished and the file is unchanged is
    demanded of every version.
    """
    from craftsfl.rounds.promotion import promote

    promote(settings, None if version is None else str(version), yes=yes)


def rounds_rollback(settings: _Settings, yes: _Yes = False) -> None:
    """Go back to the champion before the present one.

    Says which that is, and asks before anything is changed. It may be repeated,
    back to the first.
    """
    from craftsfl.rounds.promotion import roll_back

    roll_back(settings, yes=yes)


def rounds_export(
    settings: _Settings,
    out: Annotated[Path, typer.Argument(help="Where to: a new folder.")],
    run: Annotated[
        int | None, typer.Option(help="A run that has finished; the champion's if left out.", min=1)
    ] = None,
    published: Annotated[
        list[Path] | None,
        typer.Option(
            help="What a site's ledger publishes: its craftsfl site budget --publish --json. May "
            "be given several times."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="The adapter's licence, for example CC-BY-4.0.")
    ] = None,
    base_licence: Annotated[
        str | None, typer.Option(help="The base's licence, if its folder does not say it.")
    ] = None,
) -> None:
    """Write an adapter as others load it, with what they have to know.

    The folder has the weights for diffusers, for peft and for craftsfl, a model
    card, epsilon for each observer and site, licences, study and SHA-256 of all.
    The same run gives the same bytes. Nothing is replaced, and nothing is sent
    anywhere.
    """
    from craftsfl.privacy_words import epsilon_text
    from craftsfl.rounds.exporting.export import ExportRequest, export_adapter

    done = export_adapter(
        settings, ExportRequest(out, run, tuple(published or ()), licence, base_licence)
    )
    typer.echo(
        f"{out}: the adapter of run {done.run}, epsilon {epsilon_text(done.figures.claim)} at "
        f"delta {done.figures.delta:g}. Look at README.md before you pass it on."
    )
    for link in done.chain:
        if link.licence is None:
            option = "--licence" if link.what == "adapter" else "--base-licence"
            typer.echo(f"Nobody has said on whose terms the {link.what} may be used: {option}")

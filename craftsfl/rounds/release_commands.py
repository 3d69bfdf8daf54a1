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

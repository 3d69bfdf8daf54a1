"""`craftsfl model phrases`: what captions would be compared with, for a person to read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def model_phrases(
    study: Annotated[
        Path, typer.Argument(help="A study.toml that has the table stage_two.effects.")
    ],
    caption: Annotated[
        list[str] | None, typer.Option(help="A caption; may be given several times.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Tiles with metadata.csv, whose captions are shown to you alone."),
    ] = None,
) -> None:
    """Show each caption's nearest phrases and their likeness r: read it before anybody trains.

    Without --caption or --folder: of the study's sample prompts. A wrong phrase
    teaches the wrong thing, and r does not tell: only a reader can.
    """
    from craftsfl.model.phrases import captions_asked, show_phrases
    from craftsfl.terminal import output
    from privacy.study.manifest import load_study

    asked = load_study(study)
    captions = captions_asked(asked, caption or [], folder)
    show_phrases(asked, captions, output(), root=study.parent)

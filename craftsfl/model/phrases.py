"""`craftsfl model phrases`: the table caption -> c* of a study's effects.

Captions of a folder are patients' data: they are printed at the desk of whoever asked, and go
nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from client.data import load_site_data
from client.training import phrases_of
from model.encoders import ImageTextEncoder
from model.losses import nearest_phrases, phrase_likeness
from privacy.errors import ConfigError
from privacy.study.manifest import Study
from privacy.study.stage_two import CaptionEffects
from privacy.visible import visible


@dataclass(frozen=True, slots=True)
class CaptionReferences:
    """A caption, and (r, phrase) of the phrases that it would be compared with, nearest first."""

    caption: str
    phrases: tuple[tuple[float, str], ...]  # none: the term is off for this caption


def captions_asked(study: Study, captions: Sequence[str], folder: Path | None) -> list[str]:
    """The captions of the command line and of the tiles in `folder`, each once; or the prompts.

    Raises `DataError` where the folder cannot be read.
    """
    tiles = [] if folder is None else [tile.caption for tile in load_site_data(folder).tiles]
    return sorted({*captions, *tiles}) or list(study.samples.prompts)


def references_of(
    effects: CaptionEffects, encoder: ImageTextEncoder, captions: Sequence[str]
) -> list[CaptionReferences]:
    """What each of `captions` would be compared with."""
    likeness = phrase_likeness(encoder, captions, effects.phrases)
    r, chosen = (part.tolist() for part in nearest_phrases(likeness, effects.nearest))
    return [
        CaptionReferences(
            caption,
            tuple(
                (alike, effects.phrases[place])
                for alike, place in zip(own, places, strict=True)
                if alike > effects.least
            ),
        )
        for caption, own, places in zip(captions, r, chosen, strict=True)
    ]


def show_phrases(
    study: Study, captions: Sequence[str], console: Console, *, root: Path | None = None
) -> list[CaptionReferences]:
    """Print the table. A relative folder as the encoder's source starts from `root`.

    Raises `ConfigError` where the study has no such term, `ModelError` where its encoder is not
    here.
    """
    asked = phrases_of(study, "cpu", root)
    if asked is None or study.stage_two is None or study.stage_two.effects is None:
        raise ConfigError(
            "The study has no [stage_two.effects]: no caption is compared with a phrase.",
            "Name a study that has; docs/stage-two.md shows the table.",
        )
    found = references_of(study.stage_two.effects, asked.load(), captions)
    table = Table("caption", "r", "is taught to do what the base does for")
    for item in found:
        cells = (
            visible(item.caption),
            "\n".join(f"{r:.2f}" for r, _ in item.phrases),
            "\n".join(visible(phrase) for _, phrase in item.phrases) or "(like no phrase)",
        )
        table.add_row(*map(Text, cells))  # captions may hold what rich would take for markup
    console.print(table)
    unlike = sum(not item.phrases for item in found)
    console.print(
        f"{len(found)} captions, of which {unlike} are like no phrase and train without the term. "
        "r does not tell right from wrong: where the phrase names something else than the tiles "
        "show, change the study's phrases or its encoder.",
        highlight=False,
    )
    return found

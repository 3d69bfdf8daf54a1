"""What the atlas says: frozen values, for the page and for JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from model.generation.provenance import SYNTHETIC, Drawing
from model.lab.atlas.obedience import Obedience

ATLAS_FORMAT = 1
_WEAKEST = 5


@dataclass(frozen=True, slots=True)
class AtlasPicture:
    """`file` in the folder; likest: the meaning that the judge finds nearest."""

    file: str
    seed: int
    likest: str


@dataclass(frozen=True, slots=True)
class AtlasPhrase:
    """A phrase of a type, the prompt that was drawn, and its pictures."""

    phrase: str
    meaning: str
    prompt: str
    pictures: tuple[AtlasPicture, ...]

    @property
    def followed(self) -> int:
        """How many pictures are likest to what the phrase means."""
        return sum(picture.likest == self.meaning for picture in self.pictures)


@dataclass(frozen=True, slots=True)
class AtlasType:
    """A cancer type. control: of drawn tiles in place of its pictures; None where there is none."""

    code: str
    name: str
    organ: str
    phrases: tuple[AtlasPhrase, ...]
    obedience: Obedience
    control: Obedience | None


@dataclass(frozen=True, slots=True)
class AtlasJudge:
    """The encoder that judged; `checked`: compared with what a study trains towards."""

    name: str
    digest: str
    checked: bool


@dataclass(frozen=True, slots=True)
class Atlas:
    """The whole page. `meanings`: how many the judge chooses from."""

    drawing: Drawing
    words: str
    each: int
    judge: AtlasJudge
    meanings: int
    types: tuple[AtlasType, ...]
    overall: Obedience
    control: Obedience | None
    notes: tuple[str, ...]

    @property
    def ranked(self) -> tuple[AtlasType, ...]:
        """The weakest first: by the share that followed, then by gain."""
        return tuple(
            sorted(self.types, key=lambda kind: (kind.obedience.share, kind.obedience.gain))
        )

    @property
    def weakest(self) -> tuple[AtlasType, ...]:
        """The first of them."""
        return self.ranked[:_WEAKEST]

    @property
    def chance(self) -> float:
        """The share of a judge that guesses."""
        return 1 / self.meanings


def atlas_json(atlas: Atlas) -> str:
    """In ASCII, so that nothing in a file's claims acts on a terminal."""
    values = {
        "format": ATLAS_FORMAT,
        "synthetic": SYNTHETIC,
        "privacy": atlas.drawing.privacy(),
        "weakest": [kind.code for kind in atlas.weakest],
        "chance": atlas.chance,
        **asdict(atlas),
    }
    return json.dumps(_finite(values), indent=1, allow_nan=False) + "\n"


def _finite(value: object) -> object:
    """Without infinite ends of intervals, which JSON cannot say."""
    match value:
        case dict():
            return {key: _finite(part) for key, part in value.items()}
        case list() | tuple():
            return [_finite(part) for part in value]
        case float():
            return value if math.isfinite(value) else None
        case Path():
            return str(value)
    return value


def atlas_notes(atlas: Atlas) -> Iterator[str]:
    """What a reader has to know before believing the figures."""
    judge = atlas.judge
    if atlas.drawing.adapter is not None and not judge.checked:
        yield (
            f"Whether {judge.name} took part in the adapter's training was not checked: its file "
            "does not say. Name its study (--study)."
        )
    if atlas.control is not None and atlas.control.low <= atlas.chance:
        yield (
            f"{judge.name} cannot tell the phrases apart on tiles that show them: what it says of "
            "the pictures means nothing. Name another --judge."
        )
    elif atlas.control is None and atlas.overall.low <= atlas.chance:
        yield (
            f"{judge.name} finds the pictures' own phrases no more often than by guessing. Either "
            "the model does not follow them or the judge does not know them: try another --judge."
        )
    if atlas.words == "tissue":
        yield (
            "Of these words the base learned what the phrases look like; a type's name alone "
            "changes little. Types that share a phrase look alike in it."
        )

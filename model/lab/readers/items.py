"""The questions of a study, blinded: what a reader sees, and what only the key says.

Ids are random and orders differ from reader to reader, so nothing but the picture tells what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np

CAPTIONS: Final = 4
REAL, SYNTHETIC = "real", "synthetic"
_ID_BYTES: Final = 6


class ReadingTask(StrEnum):
    """A kind of question; a reader answers all of one kind before the next."""

    ORIGIN = "origin"  # real or synthetic?
    CAPTION = "caption"  # which of four?
    PAIR = "pair"  # which of two follows its caption better? One is from before training.
    QUALITY = "quality"  # 1 to 5

    @property
    def answers(self) -> tuple[str, ...]:
        """What may be answered."""
        return _ANSWERS[self]


_ANSWERS: Final = {
    ReadingTask.ORIGIN: (REAL, SYNTHETIC),
    ReadingTask.CAPTION: tuple(map(str, range(CAPTIONS))),
    ReadingTask.PAIR: ("0", "1", "same"),
    ReadingTask.QUALITY: ("1", "2", "3", "4", "5"),
}


@dataclass(frozen=True, slots=True)
class ReadingPicture:
    """A picture as one of the study's: `number` in the pool, where it is from, its caption."""

    number: int
    origin: str
    caption: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReadingItem:
    """A question. `truth` is the right answer, "" where there is none (quality)."""

    id: str
    task: ReadingTask
    pictures: tuple[int, ...]
    captions: tuple[str, ...] = field(repr=False)  # to choose from, or the one of a pair
    origin: str
    truth: str


def build_items(
    pool: Sequence[ReadingPicture],
    pairs: Sequence[tuple[ReadingPicture, ReadingPicture]],
    rng: np.random.Generator,
) -> list[ReadingItem]:
    """All questions about the pool, and about pairs of (before, after) with one caption.

    The caption is asked for only where there are four different ones.
    """
    items = []
    captions = sorted({picture.caption for picture in pool})
    for picture in pool:
        items.append(_item(rng, ReadingTask.ORIGIN, picture, (), picture.origin))
        items.append(_item(rng, ReadingTask.QUALITY, picture, (), ""))
        if len(captions) >= CAPTIONS:
            others = _others(picture, pool, captions)
            shown = [picture.caption, *rng.choice(others, CAPTIONS - 1, replace=False)]
            order = rng.permutation(CAPTIONS)
            texts = tuple(str(shown[place]) for place in order)
            truth = str(int(np.argmin(order)))
            items.append(_item(rng, ReadingTask.CAPTION, picture, texts, truth))
    for before, after in pairs:
        second = int(rng.integers(2))  # where the one from after training stands
        both = (before.number, after.number) if second else (after.number, before.number)
        items.append(
            ReadingItem(_id(rng), ReadingTask.PAIR, both, (after.caption,), SYNTHETIC, str(second))
        )
    return items


def reading_order(items: Sequence[ReadingItem], rng: np.random.Generator) -> list[ReadingItem]:
    """One reader's order: task by task, shuffled within each."""
    ordered = []
    for task in ReadingTask:
        own = [item for item in items if item.task is task]
        ordered += [own[place] for place in rng.permutation(len(own))]
    return ordered


def _others(
    picture: ReadingPicture, pool: Sequence[ReadingPicture], captions: Sequence[str]
) -> list[str]:
    """Captions to choose from besides the right one: of pictures of the same origin if they do.

    The wording of real captions may differ from that of prompts, and would tell.
    """
    alike = {other.caption for other in pool if other.origin == picture.origin}
    enough = alike if len(alike) >= CAPTIONS else set(captions)
    return sorted(enough - {picture.caption})


def _item(
    rng: np.random.Generator,
    task: ReadingTask,
    picture: ReadingPicture,
    captions: tuple[str, ...],
    truth: str,
) -> ReadingItem:
    return ReadingItem(_id(rng), task, (picture.number,), captions, picture.origin, truth)


def _id(rng: np.random.Generator) -> str:
    return rng.bytes(_ID_BYTES).hex()

"""Draw per class up to a target, and keep what the judge takes for its class.

In rounds, each a folder as `craftsfl model sample --out-dir` writes it: a class that lacks pictures
is drawn again, until it has them or has been drawn as often as is allowed. The judge is frozen and
draws follow from the seed, so that an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from client.data import read_tile
from craftsfl.model.augmenting.classes import OwnClass
from model.arrays import Groups, Images
from model.base import Pipeline, image_size
from model.generation.provenance import Drawing
from model.lab.augmentation.judging import ClassJudge
from model.lab.drawing.folder import DrawingOrder, draw_folder, items
from model.lab.drawing.prompts import Prompt
from model.lab.drawing.shots import Shot
from model.sampling import SamplerSettings

OnDrawn = Callable[[int, int], None]
_SEEDS_APART = 100_000  # of two classes


@dataclass(frozen=True, slots=True)
class DrawingTarget:
    """How many pictures of each class are kept, of at most `most` that are drawn."""

    kept: int
    most: int
    seed: int


@dataclass(frozen=True)
class DrawnClasses:
    """What was kept: images [n], the class and the file of each; drawn: how many of each class."""

    images: Images = field(repr=False)
    numbers: Groups = field(repr=False)
    files: tuple[str, ...] = field(repr=False)
    drawn: tuple[int, ...]

    def kept(self) -> tuple[int, ...]:
        """How many of each class."""
        return tuple(int((self.numbers == number).sum()) for number in range(len(self.drawn)))


@dataclass(frozen=True)
class ClassDrawer:
    """What draws and judges; `pipeline` carries the adapter, if there is one."""

    pipeline: Pipeline
    drawing: Drawing
    settings: SamplerSettings
    judge: ClassJudge
    only: frozenset[int]  # numbers of the classes that it draws

    def draw(
        self, classes: Sequence[OwnClass], target: DrawingTarget, folder: Path, on_drawn: OnDrawn
    ) -> DrawnClasses:
        """Fill `folder` with a sub-folder for each round; raises `ModelError`."""
        side = self.settings.size or image_size(self.pipeline)
        counts, kept = [0] * len(classes), [0] * len(classes)
        images: list[np.ndarray] = []
        numbers: list[int] = []
        files: list[str] = []
        round_number = 0
        while wanted := _wanted(counts, kept, target, self.only):
            round_number += 1
            own = folder / f"round-{round_number:02d}"
            shots, of = _shots(classes, wanted, counts, target.seed)
            order = DrawingOrder(shots, self.drawing, self.settings)
            draw_folder(self.pipeline, order, own, on_progress=on_drawn)
            paths = [own / item.file for item in items(shots)]
            found = np.stack([read_tile(path, side) for path in paths])
            for path, image, number, choice in zip(
                paths, found, of, self.judge.choices(found), strict=True
            ):
                counts[number] += 1
                if choice == number and kept[number] < target.kept:
                    kept[number] += 1
                    images.append(image)
                    numbers.append(number)
                    files.append(path.relative_to(folder.parent).as_posix())
        empty = np.empty((0, side, side, 3), np.uint8)
        return DrawnClasses(
            np.stack(images) if images else empty,
            np.array(numbers, np.int64),
            tuple(files),
            tuple(counts),
        )


def joined_classes(parts: Sequence[DrawnClasses]) -> DrawnClasses:
    """What several have drawn, each its own classes."""
    return DrawnClasses(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.numbers for part in parts]),
        tuple(file for part in parts for file in part.files),
        tuple(sum(counts) for counts in zip(*(part.drawn for part in parts), strict=True)),
    )


def _wanted(
    counts: Sequence[int], kept: Sequence[int], target: DrawingTarget, only: frozenset[int]
) -> dict[int, int]:
    """How many of each class the next round draws; empty when nothing is lacking or allowed."""
    found = {
        number: min(target.kept - own, target.most - drawn)
        for number, (drawn, own) in enumerate(zip(counts, kept, strict=True))
        if number in only
    }
    return {number: count for number, count in found.items() if count > 0}


def _shots(
    classes: Sequence[OwnClass], wanted: dict[int, int], counts: Sequence[int], seed: int
) -> tuple[tuple[Shot, ...], list[int]]:
    shots, of = [], []
    for number, count in wanted.items():
        own = classes[number]
        for place in range(counts[number], counts[number] + count):
            text = own.captions[place % len(own.captions)]
            which = (seed * 1000 + number) * _SEEDS_APART + place
            shots.append(Shot(Prompt(text, own.organ, own.label), which))
            of.append(number)
    return tuple(shots), of

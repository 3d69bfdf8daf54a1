"""The tasks of `bench.augmentation`: each trains one arm at one share, and looks at the tested.

Every learner begins from nothing, so that no frozen encoder brings what it knows of the rare types.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np

from bench.augmentation_patients import ContentTiles
from bench.augmentation_questions import answered_questions
from bench.augmentation_setting import (
    LABELLED_SHARES,
    OF_MORPHOLOGY,
    OF_TYPE,
    RARE_CONTENTS,
    REAL_ARM,
    SSL_SHARE,
    SYNTHETIC_ARM,
    AugmentedSetting,
)
from model.arrays import Doubles, Groups
from model.lab.augmentation.heads import fit_head
from model.lab.augmentation.lessons import Labelled, Lessons
from model.lab.augmentation.networks import predicted_classes, seen_by, train_network
from model.lab.augmentation.outcomes import Outcome
from model.lab.augmentation.retrieval import recalls, train_dual_encoder
from model.lab.augmentation.views import pretrain_views

_SSL: Final = "pretraining"


@dataclass(frozen=True)
class Material:
    """What one arm is given: labelled real tiles, its synthetic pictures, and who is tested.

    real is None for the arm of synthetic pictures alone, synthetic for that of real ones.
    """

    real: ContentTiles | None = field(repr=False)
    synthetic: ContentTiles | None = field(repr=False)
    probed: ContentTiles = field(repr=False)  # the labelled real tiles, whatever the arm
    tested: ContentTiles = field(repr=False)
    setting: AugmentedSetting
    seed: int

    def of(self, contents: frozenset[int]) -> Material:
        """The same with these contents only."""
        parts = [
            None if tiles is None else tiles.chosen(np.isin(tiles.contents, sorted(contents)))
            for tiles in (self.real, self.synthetic)
        ]
        probed, tested = (
            tiles.chosen(np.isin(tiles.contents, sorted(contents)))
            for tiles in (self.probed, self.tested)
        )
        return Material(parts[0], parts[1], probed, tested, self.setting, self.seed)

    def lessons(self) -> Lessons:
        """Images and contents."""
        return Lessons(_labelled(self.real), _labelled(self.synthetic))

    def captions(self) -> tuple[str, ...]:
        """Of `lessons().all`."""
        return tuple(
            text
            for tiles in (self.real, self.synthetic)
            if tiles is not None
            for text in tiles.captions
        )

    def outcome(self, right: Doubles) -> Outcome:
        """Of how right each tested tile came out."""
        return Outcome(right, self.tested.contents, self.tested.patients)


Solved = dict[str, Outcome]  # one run may answer several tasks
Solve = Callable[[Material], Solved]


@dataclass(frozen=True)
class AugmentedTask:
    """A task: what it trains, at which shares, and which part of its figures is a task by itself.

    rare: whether the rare types are also reported on their own. seeds: at most so many.
    """

    solve: Solve
    contents: frozenset[int]
    shares: tuple[float, ...] = LABELLED_SHARES
    rare: bool = False
    seeds: int | None = None


def material(
    setting: AugmentedSetting,
    arm: str,
    labelled: ContentTiles,
    synthetic: ContentTiles | None,
    tested: ContentTiles,
    seed: int,
) -> Material:
    """What `arm` is given of these."""
    real = None if arm == SYNTHETIC_ARM else labelled
    return Material(real, None if arm == REAL_ARM else synthetic, labelled, tested, setting, seed)


def _labelled(tiles: ContentTiles | None) -> Labelled | None:
    return None if tiles is None else Labelled(tiles.images, tiles.contents)


def _classified(name: str) -> Solve:
    def solve(given: Material) -> Solved:
        lessons = given.lessons()
        count = int(max(lessons.all.classes.max(), given.tested.contents.max())) + 1
        network = train_network(lessons, count, given.seed, given.setting.network)
        right = predicted_classes(network, given.tested.images) == given.tested.contents
        return {name: given.outcome(right.astype(np.float64))}

    return solve


def _retrieved(given: Material) -> Solved:
    """The gallery is that of the tested: their pictures, and each caption once."""
    encoder = train_dual_encoder(
        given.lessons(), given.captions(), given.seed, given.setting.network
    )
    tested = given.tested
    captions = tuple(dict.fromkeys(tested.captions))
    content_of = dict(zip(tested.captions, tested.contents, strict=True))
    offered = np.array([content_of[text] for text in captions], np.int64)
    found = encoder.similarities(tested.images, captions)
    own = np.array([captions.index(text) for text in tested.captions])
    solved: Solved = {}
    for k in (1, 5):
        texts = recalls(found, tested.contents, offered, k)
        pictures = recalls(found.T[own], tested.contents, tested.contents, k)
        solved[f"picture to caption R@{k}"] = given.outcome(texts)
        solved[f"caption to picture R@{k}"] = given.outcome(pictures)
    return solved


def _probed(given: Material) -> Solved:
    """Pretrain on the arm's pictures without labels; the probe sees the real labels alone."""
    setting = given.setting
    trunk = pretrain_views(given.lessons().all.inputs, given.seed, setting.pretraining)
    seen: Groups = given.probed.contents
    head = fit_head(Lessons(real=Labelled(seen_by(trunk, given.probed.images), seen)))
    right = head.predicted(seen_by(trunk, given.tested.images)) == given.tested.contents
    return {_SSL: given.outcome(right.astype(np.float64))}


def _questioned(given: Material) -> Solved:
    answers = answered_questions(
        given.real, given.synthetic, given.tested, given.seed, given.setting.pretraining
    )
    return {f"questions, {name}": given.outcome(right) for name, right in answers.items()}


AUGMENTED_TASKS: Final = MappingProxyType(
    {
        "type": AugmentedTask(_classified("type"), OF_TYPE, rare=True),
        "morphology": AugmentedTask(_classified("morphology"), OF_MORPHOLOGY),
        "retrieval": AugmentedTask(_retrieved, OF_TYPE, rare=True),
        "pretraining": AugmentedTask(_probed, OF_TYPE, (SSL_SHARE,), rare=True, seeds=3),
        "questions": AugmentedTask(_questioned, OF_TYPE, (SSL_SHARE,), seeds=3),
    }
)


def with_rare(task: AugmentedTask, solved: Solved) -> dict[str, tuple[Outcome, frozenset[int]]]:
    """The task's outcomes by name, and which contents count: all of them, or the rare alone."""
    found = {name: (outcome, task.contents) for name, outcome in solved.items()}
    if task.rare:
        found |= {
            f"{name}, rare types": (outcome, RARE_CONTENTS) for name, outcome in solved.items()
        }
    return found

"""Pictures of `bench.augmentation`: drawn by the base, and with an adapter trained privately.

Both are filtered by the same judge, which trains and scores nothing. What was drawn is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.augmentation_patients import ContentTiles, consortium, content_caption
from bench.augmentation_setting import (
    OF_MORPHOLOGY,
    OF_TYPE,
    PLANTED,
    PRIVATE_ARM,
    AugmentedSetting,
)
from craftsfl.planning.gradients import PatientRows
from craftsfl.planning.rehearsal import RehearsedSteps, rehearsed_adapter
from model.adapters import attach, detach, write_vector
from model.arrays import Images
from model.base import Pipeline
from model.encoders import ImageTextEncoder
from model.lab.augmentation.judging import ClassJudge
from model.sampling import SamplerSettings, sample_each

OnStage = Callable[[str], None]

_PROMPTS: Final = 75_000
_SEEDS: Final = 1_000_000
_ROUND: Final = 12  # pictures of a content that are drawn before the judge looks


@dataclass(frozen=True)
class Studio:
    """Base, judge, and where results are kept."""

    pipeline: Pipeline
    digest: str  # of the base
    evaluator: ImageTextEncoder
    folder: Path

    def pictures(
        self, setting: AugmentedSetting, arm: str, seed: int, on_stage: OnStage
    ) -> ContentTiles:
        """What PRIVATE_ARM or BASE_ARM draws for a seed, filtered; drawn at most once."""
        digest = setting.drawing_digest(self.digest)
        path = self.folder / f"pictures-{digest}-{arm}-{seed}.npz"
        if not path.exists():
            on_stage(f"seed {seed}: {arm} pictures")
            if arm == PRIVATE_ARM:
                self._wear(setting, seed, on_stage)
            try:
                _keep(path, self._filtered(setting, seed, on_stage))
            finally:
                detach(self.pipeline.unet)
        return _kept(path)

    def _wear(self, setting: AugmentedSetting, seed: int, on_stage: OnStage) -> None:
        plan = setting.plan
        path = self.folder / f"adapter-{setting.drawing_digest(self.digest)}-{seed}.npy"
        if not path.exists():
            vector = self._trained(setting, seed, on_stage)
            _replace(path, lambda file: np.save(file, vector))
        layout = attach(self.pipeline.unet, plan.adapter)
        write_vector(self.pipeline.unet, layout, np.load(path))

    def _trained(
        self, setting: AugmentedSetting, seed: int, on_stage: OnStage
    ) -> NDArray[np.float32]:
        """With noise as large as three hospitals' sealed steps open, added in one place."""
        plan = setting.plan
        sites = consortium(self.pipeline, setting, seed, self.folder / "tiles")
        rows = PatientRows(self.pipeline, plan.adapter, sites, 1)
        steps = RehearsedSteps(plan.rule, plan.clipping_norm, plan.steps, plan.opened_deviation)
        return rehearsed_adapter(
            steps, rows, seed, lambda done, every: on_stage(f"seed {seed}: step {done} of {every}")
        )

    def _filtered(self, setting: AugmentedSetting, seed: int, on_stage: OnStage) -> ContentTiles:
        """Draw in rounds, until every content has its pictures or has been drawn often enough."""
        rng = np.random.default_rng([_PROMPTS, seed])
        kept: dict[int, list[tuple[np.ndarray, str]]] = {n: [] for n in range(len(PLANTED))}
        counts = dict.fromkeys(kept, 0)
        while True:
            lacking = [n for n in kept if len(kept[n]) < setting.pictures]
            lacking = [n for n in lacking if counts[n] < setting.drawn]
            if not lacking:
                return _as_tiles(kept, setting.pictures)
            asked = [
                (n, content_caption(n, rng), counts[n] + place)
                for n in lacking
                for place in range(min(_ROUND, setting.pictures, setting.drawn - counts[n]))
            ]
            images = self._drawn(setting, asked, seed)
            chosen = self._choices(images, [n for n, _, _ in asked])
            for (content, text, _), image, choice in zip(asked, images, chosen, strict=True):
                counts[content] += 1
                if choice == content:
                    kept[content].append((image, text))
            on_stage(f"seed {seed}: {sum(counts.values())} pictures drawn")

    def _drawn(
        self, setting: AugmentedSetting, asked: list[tuple[int, str, int]], seed: int
    ) -> Images:
        settings = SamplerSettings(setting.sampling_steps, setting.guidance, workers=1)
        seeds = [(seed * 100 + content) * 10_000 + number + _SEEDS for content, _, number in asked]
        texts = [text for _, text, _ in asked]
        found = dict(sample_each(self.pipeline, texts, seeds, settings))
        return np.stack([np.asarray(found[n].convert("RGB")) for n in range(len(asked))])

    def _choices(self, images: Images, asked: list[int]) -> NDArray[np.int64]:
        """What the judge takes each for, among the contents that its task tells apart."""
        found = np.empty(len(images), np.int64)
        for contents, own in ((OF_TYPE, OF_TYPE), (OF_MORPHOLOGY, OF_MORPHOLOGY - OF_TYPE)):
            numbers = sorted(contents)
            mine = np.isin(asked, sorted(own))
            judge = ClassJudge(self.evaluator, tuple(map(_wordings, numbers)))
            found[mine] = np.array(numbers)[judge.choices(images[mine])]
        return found


def _wordings(content: int) -> tuple[str, ...]:
    rng = np.random.default_rng([_PROMPTS, content])
    return tuple(dict.fromkeys(content_caption(content, rng) for _ in range(16)))


def _as_tiles(kept: dict[int, list[tuple[np.ndarray, str]]], most: int) -> ContentTiles:
    rows = [(n, image, text) for n, own in kept.items() for image, text in own[:most]]
    unknown = np.full(len(rows), -1, np.int64)
    images = [image for _, image, _ in rows]
    return ContentTiles(
        np.stack(images) if images else np.empty((0, 64, 64, 3), np.uint8),
        tuple(text for _, _, text in rows),
        np.array([n for n, _, _ in rows], np.int64),
        np.arange(len(rows)),
        unknown,
        unknown,
    )


def _keep(path: Path, tiles: ContentTiles) -> None:
    _replace(
        path,
        lambda file: np.savez_compressed(
            file, images=tiles.images, captions=np.array(tiles.captions), contents=tiles.contents
        ),
    )


def _kept(path: Path) -> ContentTiles:
    with np.load(path) as found:
        contents = found["contents"]
        unknown = np.full(len(contents), -1, np.int64)
        captions = tuple(str(text) for text in found["captions"])
        numbers = np.arange(len(contents))
        return ContentTiles(found["images"], captions, contents, numbers, unknown, unknown)


def _replace(path: Path, write: Callable[..., None]) -> None:
    """Whole or not at all: a kill leaves no half of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{os.getpid()}-{path.name}")
    with fresh.open("wb") as file:
        write(file)
    fresh.replace(path)

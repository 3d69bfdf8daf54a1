"""The model under evaluation: draws the held-out tiles' captions, and pictures for the drift."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray

from model.arrays import Groups
from model.base import Pipeline
from model.generation.adapter import put_adapter
from model.lab.evaluation.drift import BaseAndAdapted, denoiser_drift, drift_figure, image_drift
from model.lab.evaluation.encode import EncoderSpace
from model.lab.evaluation.figures import Figure, ImageSet
from model.sampling import DEFAULT_GUIDANCE, DEFAULT_STEPS, sample

DENOISER = "denoiser"


@dataclass(frozen=True)
class Subject:
    """A base with an adapter's file, or without one: then the base itself is evaluated."""

    pipeline: Pipeline
    adapter: Path | None = None
    base: str | None = None  # its digest
    steps: int = DEFAULT_STEPS
    guidance: float = DEFAULT_GUIDANCE
    seed: int = 0

    def before_and_after(self, prompts: Sequence[str]) -> BaseAndAdapted | None:
        """Images of public prompts without and with the adapter; None if there is no adapter.

        Call it before `draw`: it puts the adapter on the pipeline, where it stays.
        """
        if self.adapter is None:
            return None
        seeds = self._seeds(len(prompts))
        base = self._images(prompts, seeds)
        other = self._images(prompts, [seed + 500_000_000 for seed in seeds])
        self.put()
        return BaseAndAdapted(tuple(prompts), base, self._images(prompts, seeds), other)

    def put(self) -> None:
        """Put the adapter on the pipeline, if there is one."""
        if self.adapter is not None:
            put_adapter(self.pipeline, self.adapter, self.base)

    def draw(self, real: ImageSet, n: int) -> ImageSet:
        """n images of captions of real tiles, in turn from every patient, with their owners."""
        rows = in_turn(real.patients, n, np.random.default_rng([self.seed, 6]))
        captions = tuple(real.captions[row] for row in rows)
        images = self._images(captions, self._seeds(n))
        return ImageSet(images, captions, real.patients[rows])

    def _seeds(self, n: int) -> list[int]:
        return [self.seed * 1_000_003 + index for index in range(n)]

    def _images(self, prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        with unlogged():
            drawn = sample(self.pipeline, prompts, seeds, steps=self.steps, guidance=self.guidance)
        return np.stack([np.asarray(image.convert("RGB"), np.uint8) for image in drawn])


@contextmanager
def unlogged() -> Iterator[None]:
    """Keep diffusers from logging what it cuts off long prompts, which are patients' captions."""
    logging: Any = diffusers_logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def in_turn(patients: Groups, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """n rows: the first of every patient, then the second, ... in random order; then again."""
    shuffled = rng.permutation(len(patients))
    _, index = np.unique(patients[shuffled], return_inverse=True)
    turn = np.zeros(len(shuffled), np.int64)
    for group in range(index.max() + 1):
        mine = index == group
        turn[mine] = np.arange(mine.sum())
    order = shuffled[np.argsort(turn, kind="stable")]
    return np.resize(order, n)


def drift_figures(
    subject: Subject, images: BaseAndAdapted, spaces: Sequence[EncoderSpace]
) -> list[Figure]:
    """The denoiser's drift, and the images' in every space.

    Raises `TooFewError` for fewer than two prompts.
    """
    change = denoiser_drift(subject.pipeline, images, subject.seed)
    figures = [drift_figure("drift", DENOISER, change, subject.seed)]
    for space in spaces:
        base = space.features(images.base)
        moved = image_drift(base, space.features(images.adapted))
        control = image_drift(base, space.features(images.other_seed))
        figures.append(drift_figure("image_drift", space.name, moved, subject.seed, control))
    return figures

"""The judge that filters: an image-text encoder that neither draws, trains nor scores.

A picture is kept if, of all classes' captions, it is most like those of its own. The judge must be
able to tell the classes' real pictures apart, or its filter would be noise, or worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from model.arrays import Features, Groups, Images
from model.encoders import ImageTextEncoder, prepare
from model.lab.augmentation.outcomes import Outcome, score_interval
from model.quality.alignment import cosines, unit_rows
from privacy.errors import ModelError

_BATCH = 256


@dataclass(frozen=True)
class ClassJudge:
    """Which class a picture shows, by the captions of each class."""

    encoder: ImageTextEncoder
    captions: tuple[tuple[str, ...], ...]
    _texts: Features = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        means = [self._embedded(texts).mean(axis=0) for texts in self.captions]
        object.__setattr__(self, "_texts", unit_rows(np.stack(means)))

    def choices(self, images: Images) -> Groups:
        """The likeliest class of each picture, int64 [n]."""
        if not len(images):
            return np.empty(0, np.int64)
        with torch.inference_mode():
            found = [
                self.encoder.embed(prepare(images[start : start + _BATCH], self.encoder))
                for start in range(0, len(images), _BATCH)
            ]
        likest = cosines(torch.cat(found).cpu().numpy(), self._texts).argmax(axis=1)
        return np.asarray(likest, np.int64)

    def _embedded(self, texts: Sequence[str]) -> Features:
        with torch.inference_mode():
            return np.asarray(self.encoder.embed_text(texts).cpu().numpy(), np.float32)


@dataclass(frozen=True)
class JudgeFound:
    """How the judge does on real pictures: balanced accuracy with its interval, and by class."""

    score: float
    low: float
    high: float
    by_class: tuple[float, ...]


def judge_on(judge: ClassJudge, images: Images, classes: Groups, patients: Groups) -> JudgeFound:
    """How the judge does on real pictures [n] whose class is known, int64 [n]."""
    right = (judge.choices(images) == classes).astype(np.float64)
    outcome = Outcome(right, classes, patients)
    labels = range(len(judge.captions))
    return JudgeFound(
        outcome.score(), *score_interval(outcome), tuple(outcome.score({label}) for label in labels)
    )


def examine_judge(
    judge: ClassJudge, images: Images, classes: Groups, patients: Groups
) -> JudgeFound:
    """The judge on real pictures whose class is known.

    Raises `ModelError` unless it is better than guessing, at 95 %: nothing is to be filtered by it.
    """
    verdict, count = judge_on(judge, images, classes, patients), len(judge.captions)
    if not verdict.low > 1 / count:
        raise ModelError(
            f"The judge {judge.encoder.name} cannot tell the classes apart: of their real pictures "
            f"it names {verdict.score:.2f} rightly ({verdict.low:.2f} to "
            f"{verdict.high:.2f}), guessing would name {1 / count:.2f}.",
            "Name another image-text encoder with --judge, or give captions in its words "
            "(--captions).",
        )
    return verdict

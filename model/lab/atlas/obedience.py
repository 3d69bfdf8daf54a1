"""Do pictures show what their phrases mean? Asked of an image-text encoder that never trained them.

A meaning's direction is the mean of all its captions (prompt ensembling: Radford et al. 2021,
arXiv 2103.00020, section 3.1.4), so that no meaning has more chances than another. A picture
follows its phrase if no other meaning's direction is nearer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.arrays import Doubles, Features, Groups, Images
from model.encoders import ImageTextEncoder
from model.lab.readers.power import share_interval
from model.quality.alignment import cosines, unit_rows
from model.quality.embedding import embed_images, embed_texts
from privacy.errors import ModelError

_LEVEL = 0.975  # of a two-sided 95 % interval


@dataclass(frozen=True, slots=True)
class Obedience:
    """Of `count` pictures, `followed` follow their phrase: `share`, with its exact 95 % interval.

    The interval is Clopper and Pearson's (1934). gain: cosine with the own meaning less the mean of
    the others', with Student's interval; its ends are infinite for one picture. Pictures count as
    independent.
    """

    followed: int
    count: int
    share: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True)
class MeaningTable:
    """Cosines [n, K] of pictures with each meaning's direction, and own int64 [n]: which is its."""

    cosines: Doubles
    own: Groups

    @property
    def nearest(self) -> Groups:
        """[n]: the meaning that each picture is likest to."""
        return np.asarray(self.cosines.argmax(axis=1), np.int64)

    @property
    def gain(self) -> Doubles:
        """[n]: see `Obedience`."""
        n, count = self.cosines.shape
        own = self.cosines[np.arange(n), self.own]
        return np.asarray(own - (self.cosines.sum(axis=1) - own) / (count - 1), np.float64)

    def obedience(self, rows: Sequence[int]) -> Obedience:
        """Of the pictures in these rows, of which there is one at least."""
        chosen = np.asarray(rows, np.int64)
        count, right = len(chosen), int((self.nearest == self.own)[chosen].sum())
        low, high = share_interval(right, count)
        return Obedience(right, count, right / count, low, high, *_student(self.gain[chosen]))


def directions(encoder: ImageTextEncoder, captions: Mapping[str, Sequence[str]]) -> Features:
    """[K, E], of length 1: the mean of each meaning's captions, in their order."""
    lengths = [len(texts) for texts in captions.values()]
    every = [text for texts in captions.values() for text in texts]
    parts = np.split(unit_rows(embed_texts(encoder, every)), np.cumsum(lengths)[:-1])
    return unit_rows(np.stack([part.mean(axis=0) for part in parts]))


def judged_by(
    encoder: ImageTextEncoder,
    images: Images,
    meanings: Sequence[str],
    captions: Mapping[str, Sequence[str]],
) -> MeaningTable:
    """Images uint8 [n, s, s, 3], each drawn for one of the meanings in `captions`.

    Raises `ModelError` for fewer than two meanings.
    """
    if len(captions) < 2:
        raise ModelError("A judge needs two meanings to choose from.", "Give more phrases.")
    place = {meaning: number for number, meaning in enumerate(captions)}
    found = cosines(embed_images(encoder, images), directions(encoder, captions))
    return MeaningTable(found, np.array([place[meaning] for meaning in meanings], np.int64))


def _student(values: Doubles) -> tuple[float, float, float]:
    """(mean, low, high); scipy's `stats` takes half a second to import."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, -np.inf, np.inf
    from scipy import stats

    error = values.std(ddof=1) / np.sqrt(len(values))
    half = float(stats.t.ppf(_LEVEL, len(values) - 1) * error)
    return mean, mean - half, mean + half

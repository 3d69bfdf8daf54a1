"""Do images show what their captions say? By an image-text encoder that training never saw.

An encoder that took part in training would judge its own work: `check_independent` refuses it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from model.arrays import Doubles, Features, Groups
from privacy.errors import ModelError


class TooFewError(ModelError):
    """Fewer images, patients, captions or phrases than a metric allows."""


@dataclass(frozen=True, slots=True)
class CaptionAlignment:
    """Cosines [n] of each image with its own caption, and with a shuffled one."""

    own: Doubles
    shuffled: Doubles

    @property
    def gain(self) -> Doubles:
        """Own less shuffled: above 0, images follow their captions, whatever the encoder's bias."""
        return self.own - self.shuffled


def check_independent(name: str, digest: str, training: Collection[str]) -> None:
    """Raise `ModelError` if the encoder of `digest` is one of those used in training."""
    if digest in training:
        raise ModelError(
            f"The encoder {name} took part in this adapter's training: it cannot judge it.",
            "Name another image-text encoder with --judge.",
        )


def caption_alignment(
    similarities: Doubles, own: Groups, patients: Groups, rng: np.random.Generator
) -> CaptionAlignment:
    """Alignment of images with captions from their cosines [n, C] with C distinct captions.

    own [n]: which caption each image was drawn for. The shuffled caption is another patient's,
    and another text. Raises `TooFewError` if nothing can be shuffled.
    """
    rows, other = np.arange(len(own)), other_captions(own, patients, rng)
    return CaptionAlignment(similarities[rows, own], similarities[rows, own[other]])


def cosines(images: Features, texts: Features) -> Doubles:
    """Cosines [n, C] of images [n, E] and texts [C, E]."""
    return np.asarray(unit_rows(images) @ unit_rows(texts).T, np.float64)


def unit_rows(features: Features) -> Features:
    """Rows of length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, 1e-12), np.float32)


def distinct_captions(*sets: Sequence[str]) -> tuple[tuple[str, ...], list[Groups]]:
    """The distinct captions of all sets, in order, and which of them each image has."""
    index: dict[str, int] = {}
    own = [
        np.array([index.setdefault(text, len(index)) for text in texts], np.int64) for texts in sets
    ]
    return tuple(index), own


def other_captions(own: Groups, patients: Groups, rng: np.random.Generator) -> Groups:
    """For each row, a random row of another patient with another caption: the shuffled control.

    own [n]: the caption of each row. Raises `TooFewError` if a row has no such other.
    """
    chosen = np.empty(len(own), np.int64)
    for row in range(len(own)):
        others = np.flatnonzero((own != own[row]) & (patients != patients[row]))
        if not len(others):
            raise TooFewError(
                "There is no other patient with another caption to shuffle with.",
                "Give images of at least two patients with two captions.",
            )
        chosen[row] = rng.choice(others)
    return chosen

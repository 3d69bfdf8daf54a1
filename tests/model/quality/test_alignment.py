"""Alignment: against a shuffled caption, and by a judge that training never saw."""

from __future__ import annotations

import numpy as np
import pytest

from model.quality.alignment import (
    TooFewError,
    caption_alignment,
    check_independent,
    cosines,
    distinct_captions,
    other_captions,
)
from privacy.errors import ModelError


def test_the_judge_must_not_have_taken_part_in_training() -> None:
    with pytest.raises(ModelError, match="took part"):
        check_independent("tiny", "sha256:aa", {"sha256:aa"})
    check_independent("tiny", "sha256:aa", {"sha256:bb"})


def test_shuffled_captions_are_another_patients_and_another_text() -> None:
    captions, patients = np.array([0, 1, 0, 2]), np.array([0, 0, 1, 2])
    for seed in range(10):
        other = other_captions(captions, patients, np.random.default_rng(seed))
        for row, chosen in enumerate(other):
            assert captions[row] != captions[chosen] and patients[row] != patients[chosen]


def test_a_single_caption_cannot_be_shuffled() -> None:
    with pytest.raises(TooFewError, match="shuffle"):
        other_captions(np.array([0, 0]), np.array([0, 1]), np.random.default_rng(0))


def test_the_gain_is_above_zero_where_images_show_their_captions() -> None:
    """Three captions on the axes; images that lie on their own one, and on the next."""
    axes, patients = np.eye(3, dtype=np.float32), np.arange(3)
    captions, (own,) = distinct_captions(("a", "b", "c"))
    assert captions == ("a", "b", "c")
    right = caption_alignment(cosines(2 * axes, axes), own, patients, np.random.default_rng(0))
    assert right.own.tolist() == [1, 1, 1]
    assert right.gain.tolist() == [1, 1, 1]
    wrong = caption_alignment(
        cosines(np.roll(axes, 1, axis=1), axes), own, patients, np.random.default_rng(0)
    )
    assert wrong.own.tolist() == [0, 0, 0]
    assert (wrong.gain <= 0).all()

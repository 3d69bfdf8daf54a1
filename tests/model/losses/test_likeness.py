"""How alike captions and phrases are: segments, centring, and one text at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from model.losses import nearest_phrases, phrase_likeness
from model.losses.likeness import segments


class Words:
    """A text tower of letter counts, which notes the batches that it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []

    def embed_text(self, texts: Sequence[str]) -> torch.Tensor:
        self.asked.append(texts)
        counts = [[5 + 3 * text.count(letter) for letter in "abcdefgh"] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(counts, dtype=torch.float32), dim=1)


@pytest.mark.parametrize(
    ("caption", "parts"),
    [
        ("chordoma, sacrum; PAS reaction.", ["chordoma, sacrum", "PAS reaction"]),
        ("one. two;three", ["one", "two;three"]),
        ("margin of 0.5 mm; fat.", ["margin of 0.5 mm", "fat"]),
        ("glands", ["glands"]),
        ("", [""]),
        (" ; . ", [" ; . "]),
    ],
)
def test_a_caption_falls_into_what_it_names(caption: str, parts: list[str]) -> None:
    assert segments(caption) == parts


def test_likeness_is_the_best_segments_centred_cosine() -> None:
    encoder: Any = Words()
    captions, phrases = ["abba; cc.", "hh"], ["ab", "cc", "gh"]
    found = phrase_likeness(encoder, captions, phrases).numpy()
    known = Words().embed_text(phrases).numpy().astype(np.float64)
    mean = known.mean(axis=0)

    def cosine(text: str, phrase: int) -> float:
        a, b = Words().embed_text([text])[0].numpy() - mean, known[phrase] - mean
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    for column in range(3):
        assert found[0, column] == pytest.approx(
            max(cosine("abba", column), cosine("cc", column)), abs=1e-5
        )
        assert found[1, column] == pytest.approx(cosine("hh", column), abs=1e-5)
    # Uncentred, the three would look alike.
    assert (known @ known.T).min() > 0.7
    assert all(len(batch) == 1 for batch in encoder.asked)


def test_nobody_has_no_rows() -> None:
    encoder: Any = Words()
    assert phrase_likeness(encoder, [], ["ab", "cc"]).shape == (0, 2)


def test_the_first_of_equals_is_nearest() -> None:
    r, chosen = nearest_phrases(torch.tensor([[0.1, 0.7, 0.3, 0.7], [0.0, 0.0, 0.0, 0.0]]), 3)
    assert chosen.tolist() == [[1, 3, 2], [0, 1, 2]]
    assert r[0].tolist() == pytest.approx([0.7, 0.7, 0.3])

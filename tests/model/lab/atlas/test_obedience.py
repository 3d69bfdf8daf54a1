"""Entries cover every type, and obedience is what it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from model.lab.atlas.entries import atlas_entries, captions_by_meaning, words_read_by
from model.lab.atlas.obedience import MeaningTable, judged_by
from model.lab.drawing.prompts import type_prompts
from model.lab.tissue.captions import CANCER_TYPES
from model.lab.tissue.tile import MORPHOLOGIES
from privacy.errors import ModelError


@pytest.mark.parametrize("words", ["tissue", "clinical"])
def test_every_phrase_of_every_type_is_an_entry(words: str) -> None:
    entries = atlas_entries(words)  # type: ignore[arg-type]
    assert {entry.code for entry in entries} == set(CANCER_TYPES)
    wanted = type_prompts(["all"], words)  # type: ignore[arg-type]
    assert [entry.prompt for entry in entries] == [prompt.text for prompt in wanted]
    captions = captions_by_meaning(entries)
    for entry in entries:
        assert entry.prompt in captions[entry.meaning]
    every = [text for texts in captions.values() for text in texts]
    assert len(every) == len(set(every))


def test_tissue_words_mean_their_morphology_and_clinical_ones_themselves() -> None:
    tissue, clinical = atlas_entries("tissue"), atlas_entries("clinical")
    assert {entry.meaning for entry in tissue} == set(MORPHOLOGIES)
    assert all(entry.meaning == entry.phrase for entry in clinical)
    assert len(captions_by_meaning(clinical)) == len({entry.phrase for entry in clinical})


def test_a_judge_is_asked_in_the_words_that_it_knows() -> None:
    entries = atlas_entries("tissue")
    own = captions_by_meaning(entries, words_read_by("tiny-evaluator"))
    others = captions_by_meaning(entries, words_read_by("tiny"))
    assert set(own) == set(others) == set(MORPHOLOGIES)
    said = [{text for texts in found.values() for text in texts} for found in (own, others)]
    assert not said[0] & said[1]
    assert words_read_by("/some/folder") == words_read_by("elsewhere")


def table(seed: int = 1, n: int = 12, k: int = 4) -> MeaningTable:
    rng = np.random.default_rng(seed)
    return MeaningTable(rng.normal(size=(n, k)), rng.integers(0, k, n).astype(np.int64))


def test_shares_and_gains_have_the_intervals_that_others_work_out() -> None:
    found = table()
    rows = [0, 2, 3, 5, 8, 11]
    answer = found.obedience(rows)
    right = sum(int(found.nearest[row] == found.own[row]) for row in rows)
    exact = binomtest(right, len(rows)).proportion_ci(method="exact")
    assert (answer.followed, answer.count) == (right, 6)
    assert (answer.low, answer.high) == pytest.approx((exact.low, exact.high))
    gains = []
    for row in rows:
        own = found.own[row]
        others = [value for place, value in enumerate(found.cosines[row]) if place != own]
        gains.append(found.cosines[row, own] - np.mean(others))
    student = ttest_1samp(gains, 0).confidence_interval(0.95)
    ends = (answer.gain, answer.gain_low, answer.gain_high)
    assert ends == pytest.approx((np.mean(gains), student.low, student.high))
    assert np.isinf(found.obedience([4]).gain_high)


class Painter:
    """Sees a picture's red, green and blue, and reads these words of a text."""

    name, digest, size = "painter", "sha256:" + "0" * 64, 8

    @property
    def device(self) -> object:
        import torch

        return torch.device("cpu")

    def embed(self, images: object) -> object:
        import torch

        return torch.as_tensor(images).mean(dim=(2, 3))

    def embed_text(self, texts: list[str]) -> object:
        import torch

        colours = ("red", "green", "blue")
        rows = [[float(colour in text) for colour in colours] for text in texts]
        return torch.tensor(rows)


CAPTIONS = {
    "a red": ("red", "very red", "red, of a kind"),
    "a green": ("green",),
    "a blue": ("blue", "blue again"),
}


def test_a_picture_follows_what_its_judge_finds_nearest() -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    for row, colour in enumerate((0, 1, 2, 2)):
        images[row, :, :, colour] = 200
    asked = ["a red", "a green", "a blue", "a red"]
    found = judged_by(Painter(), images, asked, CAPTIONS)  # type: ignore[arg-type]
    assert (found.nearest == found.own).tolist() == [True, True, True, False]
    assert found.gain.tolist() == pytest.approx([1.0, 1.0, 1.0, -0.5])
    with pytest.raises(ModelError, match="two meanings"):
        judged_by(Painter(), images, asked, {"a red": ("red",)})  # type: ignore[arg-type]

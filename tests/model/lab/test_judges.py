"""The judges: proper log-probabilities, saved and loaded alike, scores with honest intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.lab.judges import (
    DiscriminantJudge,
    Judge,
    NetworkJudge,
    accuracy,
    caption_score,
    load_judges,
    make_judge_network,
    save_judges,
)
from model.lab.tissue import HOSPITALS, MORPHOLOGIES, Appearance, draw_tile
from privacy.errors import ModelError

TINY = Path(__file__).parents[3] / "weights" / "tiny"
needs_weights = pytest.mark.skipif(not TINY.is_dir(), reason="weights/tiny is not checked out")


def tiles(count: int, appearance: Appearance | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    labels = np.arange(count) % len(MORPHOLOGIES)
    images = [
        draw_tile(MORPHOLOGIES[k], appearance or Appearance.draw(rng), rng).image for k in labels
    ]
    return np.stack(images), labels


@pytest.fixture(scope="module")
def fresh() -> tuple[NetworkJudge, DiscriminantJudge]:
    torch.manual_seed(0)
    return NetworkJudge(make_judge_network()), DiscriminantJudge.fit(*tiles(120))


class Oracle:
    """Knows the label that is written into an image's first pixel."""

    name = "oracle"

    def log_probabilities(self, images: np.ndarray) -> np.ndarray:
        table = np.full((len(images), len(MORPHOLOGIES)), -5.0)
        table[np.arange(len(images)), images[:, 0, 0, 0]] = -0.1
        return table


def marked(labels: np.ndarray) -> np.ndarray:
    images = np.zeros((len(labels), 64, 64, 3), np.uint8)
    images[:, 0, 0, 0] = labels
    return images


@pytest.mark.parametrize("which", [0, 1])
def test_rows_are_log_probabilities_that_never_rule_anything_out(
    fresh: tuple[Judge, Judge], which: int
) -> None:
    images, _ = tiles(6)
    blank = np.stack([np.zeros_like(images[0]), np.full_like(images[0], 255)])
    table = fresh[which].log_probabilities(np.concatenate([images, blank]))
    assert table.shape == (8, len(MORPHOLOGIES))
    assert np.allclose(np.exp(table).sum(axis=1), 1)
    assert table.min() >= np.log(0.01 / len(MORPHOLOGIES)) - 1e-9


def test_judges_are_the_same_after_saving(
    fresh: tuple[NetworkJudge, DiscriminantJudge], tmp_path: Path
) -> None:
    save_judges(tmp_path / "judges", *fresh)
    images, _ = tiles(6)
    loaded = load_judges(tmp_path / "judges")
    assert [judge.name for judge in loaded] == ["cnn", "lda"]
    for before, after in zip(fresh, loaded, strict=True):
        difference = before.log_probabilities(images) - after.log_probabilities(images)
        assert np.abs(difference).max() < 0.05


def test_missing_and_corrupt_judges_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="judges"):
        load_judges(tmp_path)
    for name in ("cnn.safetensors", "lda.safetensors"):
        (tmp_path / name).write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(ModelError, match="judges"):
        load_judges(tmp_path)


def test_a_score_compares_own_with_shuffled_captions() -> None:
    labels = np.repeat([0, 3], 10)
    own = [MORPHOLOGIES[k] for k in labels]
    shuffled = [MORPHOLOGIES[(k + 1) % 12] for k in labels]
    scores = caption_score(Oracle(), marked(labels), own, shuffled)
    assert [s.morphology for s in scores] == [MORPHOLOGIES[0], MORPHOLOGIES[3]]
    for score in scores:
        assert score.n == 10 and score.positive
        assert score.mean == pytest.approx(4.9) and score.low == pytest.approx(4.9)


def test_images_that_ignore_their_captions_score_no_better_than_zero() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, 400)
    own, shuffled = ([MORPHOLOGIES[k] for k in rng.integers(0, 12, len(labels))] for _ in range(2))
    scores = caption_score(Oracle(), marked(labels), own, shuffled)
    assert sum(score.positive for score in scores) <= 2  # 2.5 % each by chance
    assert np.mean([score.mean for score in scores]) == pytest.approx(0, abs=0.5)


def test_unequal_numbers_are_refused() -> None:
    with pytest.raises(ModelError, match="differ in number"):
        caption_score(Oracle(), marked(np.array([0])), ["glands"], [])


@needs_weights
@pytest.mark.parametrize("which", [0, 1])
def test_the_shipped_judges_know_the_morphologies_in_any_pretraining_stain(which: int) -> None:
    shares = accuracy(load_judges(TINY / "judges")[which], *tiles(120))
    assert min(shares.values()) >= 0.8, shares


@needs_weights
@pytest.mark.parametrize("hospital", HOSPITALS)
def test_the_discriminant_judges_hospitals_that_it_never_saw(hospital: str) -> None:
    _, discriminant = load_judges(TINY / "judges")
    shares = accuracy(discriminant, *tiles(60, HOSPITALS[hospital]))
    assert np.mean(list(shares.values())) >= 0.8, shares

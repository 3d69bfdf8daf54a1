"""Comparisons, folds, weights and the judge of augmentation, on numbers worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from model.lab.augmentation.folds import patient_folds, shared_out
from model.lab.augmentation.heads import fit_head
from model.lab.augmentation.judging import ClassJudge, examine_judge
from model.lab.augmentation.lessons import Labelled, Lessons
from model.lab.augmentation.networks import NetworkRecipe, predicted_classes, train_network
from model.lab.augmentation.outcomes import Outcome, difference, score_interval
from model.lab.augmentation.retrieval import recalls, train_dual_encoder, word_rows
from model.lab.augmentation.views import pretrain_views, two_view_loss
from privacy.errors import DataError, ModelError

SMALL = NetworkRecipe(steps=2, batch=4)


def outcome(right: list[float], classes: list[int], patients: list[int] | None = None) -> Outcome:
    owners = np.arange(len(right)) if patients is None else np.array(patients)
    return Outcome(np.array(right, float), np.array(classes), owners)


def labelled(classes: list[int], seed: int = 0, side: int = 16) -> Labelled:
    """Pictures that are bright in the channel of their class."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (len(classes), side, side, 3)).astype(np.uint8)
    for row, label in enumerate(classes):
        images[row, :, :, label] += 150
    return Labelled(images, np.array(classes, np.int64))


def test_a_score_counts_every_class_the_same() -> None:
    found = outcome([1, 1, 1, 0, 0], [0, 0, 0, 0, 1])
    assert found.score() == pytest.approx((0.75 + 0) / 2)
    assert found.score({0}) == pytest.approx(0.75)
    assert np.isnan(found.score({7}))


def test_equal_arms_differ_by_nothing_at_all() -> None:
    one = outcome([1, 0, 1, 0], [0, 0, 1, 1])
    assert difference([one, one], [one, one]) == (0.0, 0.0, 0.0)


def test_a_difference_has_an_interval_over_patients_and_one_that_is_sure_excludes_zero() -> None:
    good, bad = outcome([1] * 8, [0, 1] * 4), outcome([0, 1] * 4, [0, 1] * 4)
    assert difference([good], [bad]) == pytest.approx((0.5, 0.5, 0.5))
    mixed = outcome([1, 0, 1, 1, 0, 1, 1, 1], [0, 1] * 4)
    value, low, high = difference([mixed], [bad])
    assert low < value < high


def test_pictures_of_one_patient_come_and_go_together() -> None:
    right = [1.0] * 10 + [0.0] * 10
    apart = score_interval(outcome(right, [0] * 20))
    together = score_interval(outcome(right, [0] * 20, [0] * 10 + [1] * 10))
    assert together == (0.0, 1.0)
    assert 0.0 < apart[0] < apart[1] < 1.0


def test_arms_that_were_tested_on_others_are_not_compared() -> None:
    with pytest.raises(ModelError, match="same pictures"):
        difference([outcome([1, 0], [0, 1])], [outcome([1, 0], [1, 0])])


def test_classes_weigh_the_same_and_synthetic_pictures_do_not_drown_real_ones() -> None:
    real = Labelled(np.zeros((3, 1)), np.array([0, 0, 1]))
    drawn = Labelled(np.zeros((8, 1)), np.array([1] * 8))
    weights = Lessons(real, drawn).weights()
    assert weights.mean() == pytest.approx(1)
    assert weights[:2].sum() == pytest.approx(weights[2:].sum())
    assert weights[2] == pytest.approx(weights[3:].sum())


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ModelError, match="nothing to train on"):
        Lessons(None, Labelled(np.zeros((0, 1)), np.zeros(0, np.int64)))


def test_no_patient_is_trained_on_and_tested() -> None:
    classes, patients = np.repeat([0, 1], 12), np.repeat(np.arange(12), 2)
    tested = []
    for train, test in patient_folds(classes, patients, 3, seed=0):
        assert not set(patients[train]) & set(patients[test])
        assert set(classes[train]) == set(classes[test]) == {0, 1}
        tested += test.tolist()
    assert sorted(tested) == list(range(24))


def test_fewer_patients_than_folds_are_refused() -> None:
    with pytest.raises(DataError, match="2 patients, for 3 folds"):
        next(patient_folds(np.array([0, 0, 0, 1, 1]), np.arange(5), 3, seed=0))


def test_patients_of_several_classes_leave_no_class_without_anybody() -> None:
    """Of the second class there are only patients who also have tiles of the first."""
    classes, patients = np.array([0, 1] * 3 + [0] * 9), np.array([0, 0, 1, 1, 2, 2, *range(3, 12)])
    few = shared_out(classes, patients, 0.1, np.random.default_rng(5))
    assert set(classes[few]) == {0, 1}
    mixed = np.array([2, 0, 1, 0, 0, 1, 0, 1, 0, 0, 2, 1])  # who has class 2 is in one fold
    owners = np.array([0, 0, 1, 2, 1, 0, 1, 1, 2, 2, 2, 0])
    with pytest.raises(DataError, match="nobody of some class to train on"):
        list(patient_folds(mixed, owners, 2, seed=0))


def test_a_share_has_one_patient_of_each_class_and_grows() -> None:
    classes, patients = np.repeat([0, 1], [40, 2]), np.arange(42)
    parts = [
        shared_out(classes, patients, share, np.random.default_rng(5))
        for share in (0.05, 0.25, 1.0)
    ]
    assert [part.sum() for part in parts] == [3, 11, 42]
    assert all(set(classes[part]) == {0, 1} for part in parts)
    assert not (parts[0] & ~parts[1]).any()


def test_a_head_learns_two_classes_and_three() -> None:
    rng = np.random.default_rng(0)
    for count in (2, 3):
        classes = np.arange(30) % count
        features = rng.normal(size=(30, 4)).astype(np.float32)
        features[:, 0] += 20 * classes
        head = fit_head(Lessons(real=Labelled(features, classes)))
        assert np.array_equal(head.predicted(features), classes)


def test_the_network_learns_from_pixels_and_repeats_itself() -> None:
    shown = labelled([0, 1] * 8)
    recipe = NetworkRecipe(steps=30, batch=16, rate=1e-2)
    first, again = (train_network(Lessons(real=shown), 2, 3, recipe) for _ in range(2))
    other = labelled([0, 1] * 8, seed=1)
    assert np.array_equal(predicted_classes(first, other.inputs), other.classes)
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


def test_recall_asks_for_the_content_not_for_the_very_caption() -> None:
    similarities = np.array([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5]])
    asked, offered = np.array([0, 0]), np.array([1, 0, 0])
    assert recalls(similarities, asked, offered, 1).tolist() == [1.0, 0.0]
    assert recalls(similarities, asked, offered, 2).tolist() == [1.0, 1.0]


def test_words_that_no_lesson_had_are_left_out() -> None:
    rows = word_rows(["Red tissue", "blue", "?"], {"red": 1, "tissue": 2})
    assert rows.tolist() == [[1, 2], [0, 0], [0, 0]]


def test_a_dual_encoder_gives_cosines() -> None:
    shown = labelled([0, 1, 0, 1])
    encoder = train_dual_encoder(Lessons(real=shown), ["red", "green", "red", "green"], 0, SMALL)
    found = encoder.similarities(shown.inputs, ["red", "green", "never read"])
    assert found.shape == (4, 3)
    assert np.abs(found).max() <= 1 + 1e-6


def test_two_views_of_one_picture_attract() -> None:
    near = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    assert two_view_loss(near) < two_view_loss(near[[0, 1, 3, 2]])
    trunk = pretrain_views(labelled([0, 1, 2, 0]).inputs, 0, SMALL)
    assert not trunk.training


@dataclass(frozen=True)
class Colours:
    """An encoder that sees the mean colour, and reads a colour's name."""

    name: str = "colours"
    digest: str = "sha256:" + "0" * 64
    size: int = 16

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        return images

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        return torch.stack([torch.eye(3)[["red", "green", "blue"].index(text)] for text in texts])


def test_a_judge_that_tells_the_classes_passes_and_one_that_cannot_is_refused() -> None:
    shown = labelled([0, 1, 2] * 6)
    judge = ClassJudge(Colours(), (("red",), ("green",), ("blue",)))
    verdict = examine_judge(judge, shown.inputs, shown.classes, np.arange(18))
    assert (verdict.score, verdict.by_class) == (1.0, (1.0, 1.0, 1.0))
    confused = ClassJudge(Colours(), (("blue",), ("red",), ("green",)))
    with pytest.raises(ModelError, match="cannot tell the classes apart") as caught:
        examine_judge(confused, shown.inputs, shown.classes, np.arange(18))
    assert "--judge" in caught.value.hint

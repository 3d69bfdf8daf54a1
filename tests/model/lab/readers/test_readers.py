"""Blinding, power and scores, against other ways to work them out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from model.lab.readers.agreement import fleiss_kappa, weighted_kappa
from model.lab.readers.items import (
    REAL,
    SYNTHETIC,
    ReadingItem,
    ReadingPicture,
    ReadingTask,
    build_items,
    reading_order,
)
from model.lab.readers.power import detectable, needed_to_bound, share_interval
from model.lab.readers.scoring import ReadersFigure, score_readers

RNG = np.random.default_rng


def pool(each: int = 8, captions: int = 5) -> list[ReadingPicture]:
    return [
        ReadingPicture(n, (REAL, SYNTHETIC)[n % 2], f"caption {n // 2 % captions}")
        for n in range(2 * each)
    ]


def items_of(each: int = 8) -> list[ReadingItem]:
    pictures = pool(each)
    after = [p for p in pictures if p.origin == SYNTHETIC]
    pairs = [(ReadingPicture(100 + p.number, "before", p.caption), p) for p in after]
    return build_items(pictures, pairs, RNG(1))


@pytest.mark.parametrize(("right", "count"), [(0, 10), (3, 10), (10, 10), (17, 40)])
def test_the_interval_is_the_exact_one(right: int, count: int) -> None:
    known = binomtest(right, count).proportion_ci(method="exact")
    assert share_interval(right, count) == pytest.approx((known.low, known.high))


def test_no_judgements_say_nothing() -> None:
    assert share_interval(0, 0) == (0.0, 1.0)
    assert detectable(2) is None


@pytest.mark.parametrize(("count", "chance"), [(40, 0.5), (120, 0.5), (40, 0.25)])
def test_what_is_detectable_is_detected_four_times_in_five(count: int, chance: float) -> None:
    accuracy = detectable(count, chance)
    assert accuracy is not None
    draws = RNG(2).binomial(count, accuracy, size=4000)
    found = [binomtest(int(n), count, chance, "greater").pvalue < 0.05 for n in draws]
    assert np.mean(found) == pytest.approx(0.82, abs=0.04)


def test_so_many_judgements_bound_guessing() -> None:
    count = needed_to_bound(0.6)
    draws = RNG(3).binomial(count, 0.5, size=4000)
    assert np.mean([share_interval(int(n), count)[1] < 0.6 for n in draws]) > 0.77
    assert needed_to_bound(0.55) > 3 * count


def test_kappa_is_what_others_make_of_it() -> None:
    answers = RNG(4).integers(0, 5, (60, 2))
    answers[:30, 1] = answers[:30, 0]
    theirs = cohen_kappa_score(answers[:, 0], answers[:, 1], weights="quadratic", labels=range(5))
    assert weighted_kappa(answers, 5) == pytest.approx(theirs)
    # Fleiss 1971, Table 1 of Wikipedia's example: 14 raters, 10 subjects, kappa 0.210.
    counts = [[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]]
    counts += [[7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]]
    rows = [np.repeat(np.arange(5), row) for row in counts]
    assert fleiss_kappa(np.array(rows), 5) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa(np.zeros((9, 3), np.int64), 2) is None
    assert weighted_kappa(np.ones((9, 2), np.int64), 5) is None


def test_a_question_says_nothing_of_its_answer() -> None:
    items = items_of()
    assert len({item.id for item in items}) == len(items)
    choices = [item for item in items if item.task is ReadingTask.CAPTION]
    for item in choices:
        picture = pool()[item.pictures[0]]
        assert item.captions[int(item.truth)] == picture.caption
        assert len(set(item.captions)) == 4
    assert len({item.truth for item in choices}) > 1
    sides = [item for item in items if item.task is ReadingTask.PAIR]
    assert {item.truth for item in sides} == {"0", "1"}
    for item in sides:
        assert item.pictures[int(item.truth)] < 100  # the one from after training
    orders = [reading_order(items, RNG(seed)) for seed in (1, 2)]
    assert orders[0] != orders[1]
    assert [item.task for item in orders[0]] == sorted(
        (item.task for item in items), key=list(ReadingTask).index
    )


def test_without_four_captions_nobody_is_asked_for_one() -> None:
    items = build_items(pool(captions=3), [], RNG(1))
    assert {item.task for item in items} == {ReadingTask.ORIGIN, ReadingTask.QUALITY}


def figure_of(figures: list[ReadersFigure], task: str, name: str) -> ReadersFigure:
    return next(f for f in figures if (f.task, f.figure, f.reader) == (task, name, "all"))


def test_readers_who_know_everything_and_readers_who_guess() -> None:
    items = items_of(each=60)
    right = {i.id: i.truth or "5" for i in items}
    rng = RNG(5)
    guesses = {
        f"guess-{n}": {i.id: str(rng.choice(i.task.answers)) for i in items} for n in range(3)
    }
    known = score_readers(items, {"a": right, "b": right})
    for task, name in (("origin", "accuracy"), ("caption", "accuracy")):
        assert figure_of(known, task, name).value == 1.0
    assert figure_of(known, "origin", "synthetic ones taken for real").value == 0.0
    assert figure_of(known, "pair", "preferred the one from after training").value == 1.0
    assert figure_of(known, "origin", "kappa (Fleiss)").value == pytest.approx(1.0)
    unknown = score_readers(items, guesses)
    for task, name, chance in (
        ("origin", "accuracy", 0.5),
        ("caption", "accuracy", 0.25),
        ("origin", "kappa (Fleiss)", 0.0),
        ("quality", "kappa, quadratic weights", 0.0),
        ("quality", "synthetic - real", 0.0),
        ("caption", "synthetic - real", 0.0),
    ):
        found = figure_of(unknown, task, name)
        assert found.low is not None and found.high is not None
        assert found.low < chance < found.high, (task, name)


def test_quality_is_compared_and_missing_answers_are_left_out() -> None:
    items = items_of(each=30)
    points = {REAL: "4", SYNTHETIC: "2"}
    given = {i.id: points[i.origin] for i in items if i.task is ReadingTask.QUALITY}
    few = dict(list(given.items())[::2])
    figures = score_readers(items, {"a": given, "b": few})
    found = figure_of(figures, "quality", "synthetic - real")
    assert (found.value, found.low, found.high) == (-2.0, -2.0, -2.0)
    assert found.count == len(given) + len(few)
    assert figure_of(figures, "origin", "accuracy").value is None

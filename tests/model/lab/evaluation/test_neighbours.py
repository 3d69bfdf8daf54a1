from __future__ import annotations

import numpy as np
import pytest

from model.lab.evaluation.neighbours import Neighbours, manifolds, radii


def _line(*values: float) -> np.ndarray:
    return np.array(values, np.float32)[:, None]


def test_radii_on_a_line() -> None:
    assert radii(_line(0, 1, 3, 7), 1).tolist() == [1, 1, 2, 4]
    assert radii(_line(0, 1, 3, 7), 2).tolist() == [3, 2, 3, 6]


def test_the_four_figures_by_hand() -> None:
    # Real 0, 1, 3 with radii 1, 1, 2 (k = 1): balls [-1,1], [0,2], [1,5].
    # Generated 1.5, 10: radii 8.5, 8.5: balls [-7,10], [1.5,18.5].
    found = manifolds(_line(0, 1, 3), _line(1.5, 10), k=1)
    assert found.precision.tolist() == [1, 0]
    assert found.density.tolist() == [2, 0]  # 1.5 lies in two balls
    assert found.coverage.tolist() == [0, 1, 1]
    assert found.recall.tolist() == [1, 1, 1]


def test_the_same_set_is_wholly_precise_and_covered() -> None:
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    precision, recall, density, coverage = Neighbours().values(x, x)
    assert precision == recall == coverage == 1.0
    assert density >= 1.0


def test_a_collapsed_generator_is_precise_and_covers_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    rng = np.random.default_rng(1)
    y = (x[:1] + 0.01 * rng.normal(size=(50, 3))).astype(np.float32)
    precision, recall, _, coverage = Neighbours().values(x, y)
    assert precision == 1.0 and recall < 0.02 and coverage < 0.1


def test_its_bootstrap_is_of_means() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 3)).astype(np.float32), rng.normal(size=(20, 3)).astype(np.float32)
    spread = Neighbours().spread(x, y, (np.ones((2, 30)), np.ones((2, 20))))
    assert spread[1] == pytest.approx(Neighbours().values(x, y))

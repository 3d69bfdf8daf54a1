"""Figures of epsilon that tests outside the accounting share: each is computed once a process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from privacy.accounting import composition
from privacy.accounting.composition import MergedSteps

_compute = composition._of_gaussians


@cache
def _known(merged: MergedSteps, discretization: float, delta: float) -> float:
    return _compute(merged, discretization)(delta)


def _remembering(merged: MergedSteps, discretization: float) -> Callable[[float], float]:
    return lambda delta: _known(merged, discretization, delta)


@pytest.fixture(autouse=True)
def remembered_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every agent that starts forgets what is known of others: hundreds of tests start one.

    Composition is a pure function, and its own tests compute. A conftest that imports this
    fixture takes part.
    """
    monkeypatch.setattr(composition, "_of_gaussians", _remembering)

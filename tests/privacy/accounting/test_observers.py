from __future__ import annotations

import math
from dataclasses import replace

import pytest

from privacy.accounting import Mode, Observer, Shares, epsilon, epsilon_for, worst_of
from privacy.errors import AccountingError
from privacy.events import PoissonGaussian
from tests.privacy.accounting.oracles import DEMO, REFERENCE

EIGHT = Shares(threshold=6, min_sites=2, colluders=1)


@pytest.mark.parametrize("observer", Observer)
def test_local_noise_holds_against_everybody(observer: Observer) -> None:
    assert epsilon_for(observer, [REFERENCE], 1e-5) == epsilon([REFERENCE], 1e-5)
    assert epsilon_for(str(observer), [REFERENCE], 1e-5) == epsilon([REFERENCE], 1e-5)  # type: ignore[arg-type]


def test_reference_factors_of_the_opened_noise() -> None:
    assert EIGHT.noise_factor(Observer.PUBLIC, survivors=8) == pytest.approx(1.26, abs=0.01)
    hundred = Shares(threshold=67, min_sites=2, colluders=33)
    assert hundred.noise_factor(Observer.SERVER, survivors=100) == pytest.approx(1.7, abs=0.02)


def test_the_coalition_faces_the_noise_that_was_declared() -> None:
    assert EIGHT.noise_factor(Observer.COALITION) == 1.0
    pooled = epsilon_for(Observer.COALITION, [DEMO], 1e-5, mode="pooled", shares=EIGHT)
    assert pooled == epsilon([DEMO], 1e-5)


def test_who_knows_fewer_shares_learns_less() -> None:
    figures = {
        who: epsilon_for(who, [DEMO], 1e-5, mode="pooled", shares=Shares(6, 8, 3))
        for who in Observer
    }
    assert figures[Observer.SERVER] == figures[Observer.PUBLIC]
    assert figures[Observer.PUBLIC] < figures[Observer.SITE] < figures[Observer.COALITION]
    seen = replace(DEMO, noise_multiplier=DEMO.noise_multiplier * math.sqrt(7 / 5))
    assert figures[Observer.SITE] == epsilon([seen], 1e-5)


def test_without_colluders_another_site_is_the_worst() -> None:
    shares = Shares(threshold=3, min_sites=3)
    worst, figure = worst_of([DEMO], 1e-5, mode="pooled", shares=shares)
    assert worst is Observer.SITE
    assert figure > epsilon([DEMO], 1e-5)


@pytest.mark.parametrize("colluders", [0, 1, 2])
def test_nobody_is_left_out_of_the_worst(colluders: int) -> None:
    shares = Shares(threshold=4, min_sites=4, colluders=colluders)
    figures = [epsilon_for(o, [DEMO], 1e-5, mode="pooled", shares=shares) for o in Observer]
    assert worst_of([DEMO], 1e-5, mode="pooled", shares=shares)[1] == max(figures)
    assert min(figures) < max(figures)
    assert worst_of([DEMO], 1e-5) == (Observer.SERVER, epsilon([DEMO], 1e-5))


@pytest.mark.parametrize(
    ("threshold", "min_sites", "colluders"),
    [(1, 1, 0), (3, 2, 3), (0, 0, 0), (-1, 5, 0), (2.0, 2, 0), (2, 2, True), (10**9, 2, 0)],
)
def test_shares_that_leave_no_noise_are_refused(
    threshold: int, min_sites: int, colluders: int
) -> None:
    with pytest.raises(AccountingError):
        Shares(threshold, min_sites, colluders)


@pytest.mark.parametrize("survivors", [5, 0, -1, 6.0])
def test_fewer_survivors_than_the_floor_never_open(survivors: int) -> None:
    with pytest.raises(AccountingError, match="survivors"):
        EIGHT.noise_factor(Observer.SERVER, survivors)


def test_what_is_unknown_is_refused_by_name() -> None:
    with pytest.raises(AccountingError, match="'press' is unknown"):
        epsilon_for("press", [DEMO], 1e-5)  # type: ignore[arg-type]
    with pytest.raises(AccountingError, match="central"):
        epsilon_for(Observer.SERVER, [DEMO], 1e-5, mode="central")  # type: ignore[arg-type]
    with pytest.raises(AccountingError, match="shares"):
        epsilon_for(Observer.SERVER, [DEMO], 1e-5, mode="pooled")


@pytest.mark.parametrize("mode", ["local", "pooled"])
def test_events_are_checked_in_either_mode(mode: Mode) -> None:
    with pytest.raises(AccountingError, match="dict"):
        epsilon_for(Observer.SITE, [{}], 1e-5, mode=mode, shares=EIGHT)  # type: ignore[list-item]
    with pytest.raises(AccountingError, match="without noise"):
        silent = [PoissonGaussian(0.5, 0.0, 1.0, 1)]
        epsilon_for(Observer.SITE, silent, 1e-5, mode=mode, shares=EIGHT)

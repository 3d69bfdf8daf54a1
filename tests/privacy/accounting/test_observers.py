from __future__ import annotations

import math
from dataclasses import replace

import pytest

from privacy.accounting import Observer, Shares, epsilon, epsilon_for, worst_of
from privacy.errors import AccountingError
from privacy.events import ALWAYS_CHARGED, Event
from privacy.mechanisms.local import PoissonGaussian
from tests.privacy.accounting.oracles import DEMO, REFERENCE
from tests.privacy.mechanisms.toy import ToyShared

EIGHT = Shares(threshold=6, min_sites=2, colluders=1)


def pooled(floor: int, colluders: int) -> ToyShared:
    """DEMO with its noise in shares."""
    return ToyShared(DEMO.sampling_rate, DEMO.noise_multiplier, DEMO.steps, floor, colluders)


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
    assert epsilon_for(Observer.COALITION, [pooled(6, 1)], 1e-5) == epsilon([DEMO], 1e-5)


def test_who_knows_fewer_shares_learns_less() -> None:
    figures = {who: epsilon_for(who, [pooled(8, 3)], 1e-5) for who in Observer}
    assert figures[Observer.SERVER] == figures[Observer.PUBLIC]
    assert figures[Observer.PUBLIC] < figures[Observer.SITE] < figures[Observer.COALITION]
    seen = replace(DEMO, noise_multiplier=DEMO.noise_multiplier * math.sqrt(7 / 5))
    assert figures[Observer.SITE] == epsilon([seen], 1e-5)


def test_without_colluders_another_site_is_the_worst() -> None:
    worst, figure = worst_of([pooled(3, 0)], 1e-5)
    assert worst is Observer.SITE
    assert figure > epsilon([DEMO], 1e-5)


@pytest.mark.parametrize("colluders", [0, 1, 2])
def test_nobody_is_left_out_of_the_worst(colluders: int) -> None:
    figures = [epsilon_for(o, [pooled(4, colluders)], 1e-5) for o in ALWAYS_CHARGED]
    assert worst_of([pooled(4, colluders)], 1e-5)[1] == max(figures)
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


def test_events_are_checked_before_anybody_looks_at_them() -> None:
    with pytest.raises(AccountingError, match="dict"):
        epsilon_for(Observer.SITE, [{}], 1e-5)  # type: ignore[list-item]


@pytest.mark.parametrize(
    "silent", [PoissonGaussian(0.5, 0.0, 1.0, 1), ToyShared(0.5, 0.0, 1, 3, 1)]
)
def test_without_noise_nobody_has_a_figure(silent: Event) -> None:
    with pytest.raises(AccountingError, match="without noise"):
        epsilon_for(Observer.SITE, [silent], 1e-5)


@pytest.mark.parametrize("survivors", [6, 8])
def test_who_breaks_the_masks_sees_one_share(survivors: int) -> None:
    factor = EIGHT.noise_factor(Observer.MASKS_BROKEN, survivors)
    assert factor == pytest.approx(math.sqrt(1 / 5))
    assert EIGHT.known_to(Observer.MASKS_BROKEN) == 5


def test_masks_broken_count_only_where_they_are_named() -> None:
    events = [pooled(6, 1)]
    broken = epsilon_for(Observer.MASKS_BROKEN, events, 1e-5)
    assert worst_of(events, 1e-5)[1] < broken
    assert worst_of(events, 1e-5, [Observer.MASKS_BROKEN]) == (Observer.MASKS_BROKEN, broken)
    # Naming one observer leaves none of the others out.
    assert worst_of([DEMO], 1e-5, [Observer.MASKS_BROKEN])[0] is Observer.SERVER

"""A patient's own figure counts what overlaps the patient's stays, and only that."""

from __future__ import annotations

import pytest

from client.patients import Stay
from client.patients.figures import charges_during
from privacy.ledger import AttemptKey, Charge, Entry, State
from privacy.study.terms import event_of
from tests.client.studies import make_study

STUDY = make_study()
CHARGE = Charge(STUDY.digest(), event_of(STUDY), 1e-5)


def entry(begun: float, charged: float | None) -> Entry:
    state = State.INTENT if charged is None else State.COMMITTED
    return Entry(AttemptKey(CHARGE.study_digest, 1, 1, 1), CHARGE, state, 1, begun, charged)


@pytest.mark.parametrize(
    ("begun", "charged", "counts"),
    [
        (10.0, 20.0, False),
        (10.0, 100.0, True),
        (150.0, 160.0, True),
        (90.0, 250.0, True),
        (200.0, 260.0, True),
        (201.0, 260.0, False),
        (150.0, None, False),
    ],
)
def test_attempts_count_that_overlap_a_stay(
    begun: float, charged: float | None, counts: bool
) -> None:
    found = charges_during([Stay(100.0, 200.0)], [entry(begun, charged)])
    assert found == ([CHARGE] if counts else [])


def test_an_open_stay_has_no_end_and_two_stays_count_once() -> None:
    stays = [Stay(100.0, 200.0), Stay(150.0, None)]
    assert charges_during(stays, [entry(160.0, 170.0), entry(1e9, 2e9)]) == [CHARGE, CHARGE]
    assert charges_during([], [entry(1.0, 2.0)]) == []

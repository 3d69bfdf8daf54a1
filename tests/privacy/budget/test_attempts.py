"""May an attempt be made? Schedule, lost attempts, noise and budgets, in this order."""

from __future__ import annotations

import dataclasses

import pytest

from privacy.budget import (
    Book,
    Budgets,
    Limits,
    Objection,
    StudyCharges,
    cannot_end,
    may_begin,
    to_its_end,
    whole_figures,
)
from privacy.ledger import AttemptKey, Charge

from .charges import BARE, CHARGE, ELSEWHERE, LIMITS

STUDY = StudyCharges(CHARGE, rounds=3, attempts=2, most_lost=4)
NEXT = AttemptKey(CHARGE.study_digest, 9, 1, 1)


def asked(
    *charges: Charge,
    key: AttemptKey = NEXT,
    study: StudyCharges = STUDY,
    lost: int = 0,
    limits: Limits = LIMITS,
) -> Budgets | Objection:
    return may_begin(key, study, lost, Book(charges).allowance(limits, study.charge))


def test_attempts_that_can_never_be_charged_take_nothing_away() -> None:
    allowance = Book([CHARGE] * 4).allowance(LIMITS, CHARGE)
    for lost, unsettled, begins in ((3, 0, True), (3, 1, False), (3, None, False)):
        found = may_begin(NEXT, POOLED, lost, allowance, unsettled)
        assert isinstance(found, Budgets) is begins
    assert "max_lost_attempts" in words(may_begin(NEXT, POOLED, 9, allowance, 0))


def words(found: Budgets | Objection) -> str:
    assert isinstance(found, Objection)
    return found.words


def test_an_attempt_within_schedule_and_budgets_may_begin() -> None:
    found = asked(CHARGE)
    assert isinstance(found, Budgets)
    assert found.fit


@pytest.mark.parametrize(("round_", "attempt"), [(0, 1), (4, 1), (1, 0), (1, 3)])
def test_rounds_and_attempts_are_those_of_the_schedule(round_: int, attempt: int) -> None:
    assert asked(key=AttemptKey(CHARGE.study_digest, 9, round_, attempt)) == Objection()


def test_a_study_has_its_attempts_once_charged_or_lost() -> None:
    assert "all of its 3 rounds x 2 attempts" in words(asked(*[CHARGE] * 3, lost=3))
    assert "all of its 3 rounds x 2 attempts" in words(asked(*[CHARGE] * 6))
    assert isinstance(asked(*[CHARGE] * 3, lost=2), Budgets)


def test_lost_attempts_are_bounded() -> None:
    assert "max_lost_attempts in policy.toml allows 4" in words(asked(lost=4))


def test_no_noise_is_for_those_who_allow_it_whatever_the_budgets() -> None:
    bare = dataclasses.replace(STUDY, charge=BARE)
    assert asked(study=bare) == Objection()
    allowed = dataclasses.replace(LIMITS, allow_no_privacy=True)
    assert isinstance(asked(BARE, study=bare, limits=allowed), Budgets)


def test_only_the_figures_of_the_study_itself_may_leave() -> None:
    one = Book((CHARGE,)).lifetime_epsilon(LIMITS)
    own = asked(CHARGE, limits=Limits(20.0, 1e-4, one * 1.01))
    assert isinstance(own, Objection)
    assert own.over is not None
    assert (own.over.spent, own.over.budget) == (one, one * 1.01)
    others = asked(ELSEWHERE, limits=Limits(one * 1.01, 1e-4, one * 1.01))
    assert isinstance(others, Objection)
    assert others.over is None
    assert others.words.startswith("all studies together: used")


POOLED = dataclasses.replace(STUDY, attempts=3, most_lost=9, spare=2)


def test_attempts_of_a_pooled_study_are_counted_over_all_of_it() -> None:
    """T + A: three steps and two spare attempts, wherever they are lost."""
    assert POOLED.most == 5
    for lost in range(5):
        charged = [CHARGE] * (4 - lost)
        assert isinstance(asked(*charged, study=POOLED, lost=lost), Budgets)
        more = [*charged, CHARGE]
        assert "3 steps and 2 spare attempts" in words(asked(*more, study=POOLED, lost=lost))
    third = AttemptKey(CHARGE.study_digest, 9, 1, 3)
    assert isinstance(asked(key=third, study=POOLED), Budgets)
    assert asked(key=dataclasses.replace(third, attempt=4), study=POOLED) == Objection()


def test_what_a_pooled_study_may_cost_is_all_of_its_attempts() -> None:
    allowance = Book((CHARGE,)).allowance(LIMITS, CHARGE)
    assert to_its_end(POOLED, allowance) == allowance.after(4)
    assert whole_figures(POOLED, allowance.after(4)).startswith("3 steps and 2 spare attempts,")


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"study_epsilon": 0.5}, "and study_epsilon, of this study, is 0.50 in policy.toml"),
        ({"epsilon": 0.75}, "and epsilon, of all studies together, is 0.75 in policy.toml"),
        ({"epsilon": 0.75, "study_epsilon": 0.5}, "and study_epsilon, of this study, is 0.50"),
    ],
    ids=["study", "lifetime", "both"],
)
def test_a_study_that_cannot_end_is_told_which_budget_it_exceeds(
    limits: dict[str, float], named: str
) -> None:
    allowance = Book().allowance(dataclasses.replace(LIMITS, **limits), CHARGE)
    over = cannot_end(STUDY, allowance)
    assert over is not None
    assert named in whole_figures(STUDY, over)

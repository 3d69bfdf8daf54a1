"""What other studies spent at a site: it shows in no answer, and in no answer's time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privacy.ledger import AttemptKey, Charge, SqliteLedger
from privacy.study.terms import event_of
from privacy.wire.bodies import Refusal
from privacy.wire.reasons import Reason
from tests.privacy.ledger.ledgers import open_test_ledger

from .fakes import full_disk, message, opened, refused
from .sides import BEGAN, SLOT, Side, is_update
from .studies import make_study

ACROSS: dict[str, dict[str, Any]] = {
    "sum": {},
    "filter": {"across_studies": "rdp-filter", "rdp_order": 6},
}


def spend(ledger: SqliteLedger, rounds: int) -> None:
    """Charges of another study, of a mechanism of its own."""
    other = make_study(name="other", training={"noise_multiplier": 2.0})
    for number in range(1, rounds + 1):
        key = AttemptKey(other.digest(), 5, number, 1)
        ledger.intent(key, Charge(other.digest(), event_of(other), 1e-5))
        ledger.commit(key)


def answers_of(side: Side) -> list[bytes]:
    """All that does not rest on keys that are drawn anew."""
    side.trains("raises")
    said = [side.agent.handle(message(side.greeting()))]
    side.begin()
    side.settled()
    side.now.at = BEGAN + SLOT
    said += [side.look(), *side.others()]
    side.begin(round=2)  # is it admitted?
    said.append(str(side.states[-1]).encode())
    return said


@pytest.mark.parametrize("across", ACROSS)
def test_other_studies_spending_never_shows(
    make: Callable[..., Side], tmp_path: Path, across: str
) -> None:
    """As long as the budget of all studies lasts, not a byte differs."""
    told = []
    for rounds in (0, 1, 3):
        with open_test_ledger(tmp_path / f"{rounds}.sqlite") as ledger:
            spend(ledger, rounds)
            side = make(ledger=ledger, policy={"epsilon": 60.0, **ACROSS[across]})
            told.append(answers_of(side))
            assert side.agent.stop(10)
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("across", ACROSS)
def test_a_budget_that_other_studies_have_used_up_is_refused_without_figures(
    make: Callable[..., Side], ledger: SqliteLedger, across: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Like any other bound of the policy; the site's own log says which it was."""
    other = make_study(name="other", training={"noise_multiplier": 0.5, "steps": 100})
    key = AttemptKey(other.digest(), 5, 1, 1)
    ledger.intent(key, Charge(other.digest(), event_of(other), 1e-5))
    ledger.commit(key)
    side = make(policy=ACROSS[across])
    assert side.begin() == Refusal(Reason.POLICY)
    assert "all studies together: used" in caplog.text


@pytest.mark.parametrize("across", ACROSS)
def test_a_study_that_cannot_end_is_refused_alike_whatever_others_spent(
    make: Callable[..., Side], tmp_path: Path, across: str
) -> None:
    """With its own figures alone, at the greeting and after it, byte for byte."""
    told = []
    for rounds in (0, 1, 3):
        with open_test_ledger(tmp_path / f"{rounds}.sqlite") as ledger:
            spend(ledger, rounds)
            side = make(ledger=ledger, policy={"study_epsilon": 4.0, **ACROSS[across]})
            greeted = side.agent.handle(message(side.greeting()))
            refusal = side.begin()
            assert refused(refusal) == Reason.CANNOT_FINISH
            assert opened(greeted).body == refusal
            told.append(greeted)
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("across", ACROSS)
def test_where_others_leave_too_little_for_the_end_no_figure_says_so(
    make: Callable[..., Side], ledger: SqliteLedger, across: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One round would fit, and is not begun: it could only tell how many more would."""
    spend(ledger, 3)
    side = make(policy={"study_epsilon": 20.0, "epsilon": 20.0, **ACROSS[across]})
    assert opened(side.agent.handle(message(side.greeting()))).body == Refusal(Reason.POLICY)
    assert side.begin() == Refusal(Reason.POLICY)
    assert "of all studies together, is 20.00 in policy.toml" in caplog.text


@pytest.mark.parametrize("budget", [40.0, 4.0])
@pytest.mark.parametrize("across", ACROSS)
def test_no_answer_waits_for_the_accounting_of_other_studies(
    make: Callable[..., Side],
    ledger: SqliteLedger,
    monkeypatch: pytest.MonkeyPatch,
    across: str,
    budget: float,
) -> None:
    """From the start on nobody reads their charges: no answer can take longer for them."""
    from privacy.accounting import composition

    spend(ledger, 3)
    budgets = {"study_epsilon": budget, "epsilon": 40.0, "allow_partial": True}
    side = make(policy={**budgets, **ACROSS[across]})
    own = event_of(side.study)
    read: list[float] = []
    merge = composition.merge_events

    def spied(events: Any) -> Any:
        known = list(events)
        read.extend(event.noise_multiplier for event in known)
        return merge(known)

    for name in ("composition", "across", "fitting"):
        monkeypatch.setattr(f"privacy.accounting.{name}.merge_events", spied)
    monkeypatch.setattr(SqliteLedger, "entries", full_disk)
    side.agent.handle(message(side.greeting()))
    answer = side.begin()
    assert isinstance(answer, Refusal) == (budget == 4.0)
    if budget == 40.0:
        side.settled()
        side.now.at = BEGAN + SLOT
        assert is_update(side, side.look())
        side.others()
    assert own.noise_multiplier != 2.0
    assert set(read) == {own.noise_multiplier}


def test_figures_in_common_with_another_study_are_not_ready_sooner(
    make: Callable[..., Side], ledger: SqliteLedger
) -> None:
    """Another study with the same schedule was further: what is remembered of it would tell."""
    from privacy.accounting.composition import epsilon_of

    twin = make_study(name="twin")
    for number in (1, 2, 3):
        key = AttemptKey(twin.digest(), 5, number, 1)
        ledger.intent(key, Charge(twin.digest(), event_of(twin), 1e-5))
        ledger.commit(key)
    side = make(ledger=ledger)
    assert event_of(side.study) == event_of(twin)
    assert epsilon_of.cache_info().currsize == 2  # the own next round, and schedule

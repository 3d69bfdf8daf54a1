"""When anything is told of an attempt: what a coordinator's questions, and when it asks, can tell.

Each test has a clock of its own: `side` begins attempts and looks at them.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.agent.site_agent import AgentParts
from client.agent.work import AttemptWork
from client.policy import SiteRules
from privacy.errors import PolicyError
from privacy.ledger import AttemptKey, SqliteLedger, State
from privacy.wire.bodies import Refusal, Running
from privacy.wire.envelope import refuse
from privacy.wire.reasons import Reason
from tests.privacy.ledger.ledgers import open_test_ledger, spent_by

from .fakes import full_disk, message
from .masked import masked_rules
from .sides import BEGAN, DROPS_OUT, SLOT, Outcome, Side, is_update, no_update
from .studies import make_study


@pytest.mark.parametrize("took", [SLOT + 0.001, 2 * SLOT, 17.0])
def test_a_late_update_never_leaves(side: Side, took: float) -> None:
    """Neither in a later slot, nor to whoever waits with the first look until it is there."""
    side.trainer.on_start = lambda: setattr(side.now, "at", BEGAN + took)
    side.begin()
    side.settled()
    answers = []
    for seconds in (took, 2 * SLOT + took, 100 * SLOT):
        side.now.at = BEGAN + seconds
        answers.append(side.look())
    assert no_update(side, answers[0])
    assert len(set(answers)) == 1
    assert side.states == [State.COMMITTED]


def test_an_update_that_comes_after_the_first_look_never_leaves(side: Side) -> None:
    side.trains("never done")
    side.begin()
    side.settled()
    work = side.agent._attempt.work  # type: ignore[union-attr]
    side.now.at = BEGAN + SLOT
    first = side.look()
    assert no_update(side, first)
    side.trainer.gate.set()
    assert work.wait(10)
    side.now.at = BEGAN + 3 * SLOT
    assert side.look() == first
    assert side.states == [State.COMMITTED]


@pytest.mark.parametrize("took", [0.0, 4.9, SLOT])
@pytest.mark.parametrize("first_look", [SLOT, 1.5 * SLOT, 40.0])
def test_an_update_that_is_there_in_time_leaves_from_its_slot_on(
    side: Side, took: float, first_look: float
) -> None:
    side.trainer.on_start = lambda: setattr(side.now, "at", BEGAN + took)
    side.begin()
    side.settled()
    side.now.at = BEGAN + SLOT - 0.001
    assert side.body(side.look()) == Running()
    side.now.at = BEGAN + first_look
    answer = side.look()
    assert is_update(side, answer)
    side.now.at += 100.0
    assert side.look() == answer
    assert side.states == [State.COMMITTED]


@pytest.mark.parametrize("outcome", ["in time", *DROPS_OUT])
def test_the_first_look_after_the_slot_charges(side: Side, outcome: Outcome) -> None:
    side.trains(outcome)
    side.begin()
    side.settled()
    assert side.states == [State.INTENT]
    side.now.at = BEGAN + SLOT + 0.01
    assert is_update(side, side.look()) == (outcome == "in time")
    assert side.states == [State.COMMITTED]
    side.look()
    assert side.states == [State.COMMITTED]


@pytest.mark.parametrize("outcome", ["in time", *DROPS_OUT])
def test_a_look_that_cannot_be_charged_is_told_nothing(
    side: Side, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    side.trains(outcome)
    side.begin()
    side.settled()
    side.now.at = BEGAN + SLOT + 0.01
    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, "commit", full_disk)
        assert side.look() == refuse(message(Running()), Reason.INTERNAL)
    assert side.states == [State.INTENT]
    assert is_update(side, side.look()) == (outcome == "in time")


def conversation(side: Side, outcome: Outcome) -> list[bytes]:
    """All that is said from the begin of an attempt to long after its slot."""
    side.trains(outcome)
    side.begin()
    side.settled()
    said = []
    for seconds in (0.0, 0.5 * SLOT, SLOT - 0.001, SLOT + 0.01, 2 * SLOT, 10 * SLOT):
        side.now.at = BEGAN + seconds
        said += side.others()[:1] if seconds < SLOT else []
        said.append(side.look())
        said += side.others() if seconds > SLOT else []
    return said


def test_failure_and_lateness_look_the_same_byte_for_byte(
    make: Callable[..., Side], tmp_path: Path
) -> None:
    told = set()
    for number, outcome in enumerate(DROPS_OUT):
        with open_test_ledger(tmp_path / f"{number}.sqlite") as ledger:
            side = make(ledger=ledger)
            said = conversation(side, outcome)
            assert no_update(side, said[-len(side.others()) - 1])
            told.add(tuple(said))
            side.trainer.gate.set()
            assert side.agent.stop(10)
    assert len(told) == 1


@pytest.mark.parametrize("outcome", ["in time", *DROPS_OUT])
def test_looks_before_the_slot_do_not_depend_on_training(side: Side, outcome: Outcome) -> None:
    side.trains(outcome)
    side.begin()
    side.settled()
    looks = set()
    for seconds in (0.0, 1.0, 0.99 * SLOT):
        side.now.at = BEGAN + seconds
        looks.add(side.look())
    assert [side.body(look) for look in looks] == [Running()]
    assert side.states == [State.INTENT]


@pytest.mark.parametrize("outcome", ["in time", *DROPS_OUT])
def test_what_training_gave_is_not_even_asked_before_the_charge(
    side: Side, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is written once, whatever it was: no answer comes sooner for a failure."""
    seen: list[str] = []
    commit, result_by = SqliteLedger.commit, AttemptWork.result_by

    def watched(self: SqliteLedger, key: AttemptKey) -> None:
        seen.append("charged")
        commit(self, key)

    def asked(self: AttemptWork, moment: float) -> Any:
        seen.append("asked")
        return result_by(self, moment)

    monkeypatch.setattr(SqliteLedger, "commit", watched)
    monkeypatch.setattr(AttemptWork, "result_by", asked)
    side.trains(outcome)
    side.begin()
    side.settled()
    side.now.at = BEGAN + SLOT + 0.01
    side.look()
    side.look()
    assert seen == ["charged", "asked"]


@pytest.mark.parametrize("slot", [1e-9, 5.0, 59.9])
def test_a_slot_of_a_nanosecond_is_refused(slot: float) -> None:
    """By the policy as it is where it does not name min_reply_slot."""
    rules = masked_rules(make_study(cohort={"round_deadline": 600.0, "reply_slot": slot}))
    given = {name: value for name, value in rules.policy if name != "min_reply_slot"}
    strict = SiteRules(rules.name, rules.study, type(rules.policy)(**given))
    with pytest.raises(PolicyError, match=rf"reply_slot {slot:g} is below min_reply_slot 60 "):
        strict.check()
    lower = rules.policy.model_copy(update={"min_reply_slot": slot})
    SiteRules(rules.name, rules.study, lower).check()


def test_superseded_attempts_are_bounded_and_were_told_nothing(make: Callable[..., Side]) -> None:
    """Polled to the last moment, done or not, they look alike, cost nothing, and come to an end."""
    side = make(changes={"rounds": 2, "privacy": {"attempts": 3}}, policy={"max_attempts": 3})
    answers = set()
    for round, attempt in ((1, 1), (1, 2), (1, 3), (2, 1)):
        side.now.at = BEGAN
        side.begin(round=round, attempt=attempt)
        if attempt % 2:
            side.settled()
        side.now.at = BEGAN + SLOT - 0.001
        answers.add(type(side.body(side.look(round=round, attempt=attempt))))
    assert answers == {Running}
    assert side.begin(round=2, attempt=2) == Refusal(Reason.POLICY)
    assert side.states == [State.INTENT] * 4
    assert spent_by(side.ledger) == 0.0


def test_an_attempt_that_waits_for_an_older_one_has_a_slot_of_its_own(side: Side) -> None:
    """The older one's physical batch ends in time or not: nothing shows before the slot."""
    release = threading.Event()
    side.trainer.on_start = lambda: release.wait(10) and None
    side.begin()
    older = side.agent._attempt.work  # type: ignore[union-attr]
    side.now.at = BEGAN + 4.0
    side.begin(attempt=2)
    side.now.at = BEGAN + 4.0 + SLOT - 0.001
    assert side.body(side.look(attempt=2)) == Running()
    side.now.at = BEGAN + 4.0 + SLOT
    first = side.look(attempt=2)
    assert no_update(side, first)
    release.set()
    assert older.wait(10)
    side.now.at += 10 * SLOT
    assert side.look(attempt=2) == first
    assert side.states == [State.INTENT, State.COMMITTED]


def test_an_attempt_that_got_its_turn_in_time_is_not_late(side: Side) -> None:
    release = threading.Event()
    side.trainer.on_start = lambda: release.wait(10) and None
    side.begin()
    side.now.at = BEGAN + 4.0
    side.begin(attempt=2)
    release.set()
    side.settled()
    side.now.at = BEGAN + 4.0 + SLOT - 0.001
    assert side.body(side.look(attempt=2)) == Running()
    side.now.at = BEGAN + 4.0 + SLOT
    assert is_update(side, side.look(attempt=2))


def test_the_end_of_an_agent_under_way_is_charged_at_the_next_start(
    make: Callable[..., Side], side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    """A draw that is too large for the machine may end the agent, and everybody sees that."""
    side.trains("never done")
    side.begin()
    side.begin(attempt=2)  # it waits; the one that it supersedes may still have the device
    assert side.states == [State.INTENT, State.INTENT]
    again = make()
    assert again.states == [State.COMMITTED, State.COMMITTED]
    assert "Round 1 was under way when the agent ended" in caplog.text
    assert not isinstance(again.begin(round=2), Refusal)
    make()
    assert make().states == [State.COMMITTED, State.COMMITTED, State.COMMITTED]


def test_what_was_superseded_before_the_last_charge_stays_free(
    make: Callable[..., Side], side: Side
) -> None:
    side.begin()
    side.begin(attempt=2)
    side.settled()
    side.now.at = BEGAN + SLOT
    side.look(attempt=2)
    assert side.states == [State.INTENT, State.COMMITTED]
    assert make().states == [State.INTENT, State.COMMITTED]


def test_the_agents_clock_stops_where_the_machine_sleeps() -> None:
    """Time in which training could not go on is none; nor can anybody set the clock."""
    assert inspect.signature(AgentParts).parameters["clock"].default is time.monotonic

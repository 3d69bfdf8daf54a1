"""The agent of a pooled study over steps, sessions, runs and restarts: what follows on what."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.agent.sealed_agent import SealedAgent
from privacy.ledger import AttemptKey, State
from privacy.wire.bodies import Body, Refusal, Running, RunOver
from privacy.wire.checks import Check
from privacy.wire.reasons import Reason
from privacy.wire.sealed import Sealed
from privacy.wire.session import SessionKey

from .fakes import refused
from .sealed import (
    MEMBERS_OF_FOUR,
    RUN,
    SLOT,
    SealedSites,
    TinyCoordinator,
    check_of,
    sealed_study_of_four,
    state_of,
)


def test_a_newer_attempt_takes_the_older_ones_place_at_no_charge(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    first = coordinator.begun()
    coordinator.whole(2)
    assert [entry.state for entry in sites.ledgers[1].entries()] == [State.INTENT, State.COMMITTED]
    assert refused(coordinator.send(first, 1)) is Reason.NOT_NEWER


def test_a_restarted_agent_needs_a_new_session(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    coordinator.whole()
    step = coordinator.begun()
    agent = sites.start(1)
    assert sites.ledgers[1].entries()[-1].state is State.COMMITTED  # it was under way: charged
    before = state_of(sites, 1)
    assert refused(coordinator.send(step, 1)) is Reason.NOT_NEWER
    assert check_of(coordinator.send(coordinator.step(2), 1)) is Check.NO_SESSION
    assert check_of(coordinator.ask(1, coordinator.offer)) is Check.OLD_SESSION  # type: ignore[arg-type]
    assert (state_of(sites, 1), agent._machine) == (before, None)
    coordinator.open()
    coordinator.whole(2)


def test_a_late_site_fetches_the_sums_and_works_the_adapter_out(
    sites: SealedSites, coordinator: TinyCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator.open()
    coordinator.whole()
    coordinator.whole()
    adapter = sites.agents[1]._chain.current.adapter
    sites.start(1)
    coordinator.open()
    step = coordinator.step()
    before = state_of(sites, 1)
    assert coordinator.send(step, 1) == Refusal(Reason.MISSING_SUMS, newest_run=0)
    assert coordinator.send(coordinator.with_sums(step, coordinator.sums[1:]), 1) == Refusal(
        Reason.MISSING_SUMS, newest_run=0
    )
    assert state_of(sites, 1) == before
    assert "refused" not in caplog.text  # it lacks sums, and what it was sent is in order
    whole = coordinator.with_sums(step, coordinator.sums)
    assert coordinator.send(whole, 1) == Running()
    mine: SealedAgent = sites.agents[1]
    assert mine._chain.current.steps == 2
    assert (
        mine._chain.current.adapter.tobytes()
        == coordinator.chain.adapter.tobytes()
        != adapter.tobytes()
    )


def test_steps_are_not_skipped_repeated_or_put_in_another_order(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    coordinator.whole()
    before = state_of(sites, 1)
    skipped = coordinator.step(number=3)
    assert coordinator.send(skipped, 1) == Refusal(Reason.MISSING_SUMS, newest_run=0)
    repeated = coordinator.step(2, number=1)
    assert check_of(coordinator.send(repeated, 1)) is Check.SUMS
    assert state_of(sites, 1) == before
    coordinator.send(coordinator.step(3), 1)
    before = state_of(sites, 1)
    for attempt in (2, 1):
        assert refused(coordinator.send(coordinator.step(attempt), 1)) is Reason.NOT_NEWER
    assert state_of(sites, 1) == before


def test_numbers_only_grow_over_sessions_runs_and_restarts(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    coordinator.whole()
    coordinator.open()
    assert refused(coordinator.send(coordinator.step(1, number=1), 1)) is Reason.CONFLICT
    coordinator.whole()
    assert refused(coordinator.send(coordinator.step(1, number=1), 1)) is Reason.NOT_NEWER
    sites.start(1)
    other = TinyCoordinator(sites, run=2)
    other.number = coordinator.number
    other.open()
    other.whole()
    assert refused(coordinator.ask(1, coordinator.offered())) is Reason.OLDER_RUN
    newest = sites.ledgers[1].entries()[-1].key
    assert (newest.run, newest.round, newest.attempt) == (2, 1, 1)


def test_a_run_that_is_open_lets_no_other_in(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    coordinator.begun()
    other = TinyCoordinator(sites, run=2)
    other.number = coordinator.number
    assert refused(other.ask(1, other.offered())) is Reason.RUN_OPEN
    sites.sleep(SLOT + sites.study.cohort.round_deadline)
    other.open()


def test_a_run_that_was_ended_lets_the_next_one_in(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """The worst choice: to end it once its vector is ready, and to ask for that vector then."""
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    assert coordinator.ask(1, RunOver()) == RunOver()
    assert not isinstance(coordinator.send(step, 1), Sealed)
    assert [entry.state for entry in sites.ledgers[1].entries()] == [State.INTENT]
    other = TinyCoordinator(sites, run=2)
    other.number = coordinator.number
    assert isinstance(other.ask(1, other.offered()), SessionKey)


def test_lost_attempts_end_the_study_when_its_spares_are_used_up(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """T = 3 and A = 2: five charges, whatever the coordinator does."""
    coordinator.open()
    for attempt in (1, 2):
        step = coordinator.begun(attempt)
        sites.sleep(SLOT)
        coordinator.send_all(step)  # and the coordinator loses the sum
    for attempt in (3, 1, 1):
        coordinator.whole(attempt)
    charged = [entry for entry in sites.ledgers[1].entries() if entry.state is State.COMMITTED]
    assert len(charged) == sites.study.most_attempts == 5
    other = TinyCoordinator(sites, run=2)
    other.number = coordinator.number
    other.open()
    assert refused(other.send(other.step(), 1)) is Reason.POLICY


def test_the_budget_is_the_studys_own(tmp_path: Path) -> None:
    sites = SealedSites(tmp_path, policy={"study_epsilon": 1.2, "allow_partial": True})
    coordinator = TinyCoordinator(sites)
    coordinator.open()
    answer: Body = Running()
    for _ in range(sites.study.rounds):
        answer = coordinator.send(coordinator.step(), 1)
        if answer != Running():
            break
        coordinator.whole(2)
    sites.close()
    assert isinstance(answer, Refusal)
    assert answer.reason is Reason.BUDGET
    assert answer.spent <= 1.2 < answer.would_be


def test_a_site_that_was_out_for_two_steps_comes_back(tmp_path: Path) -> None:
    sites = SealedSites(tmp_path, sealed_study_of_four(), MEMBERS_OF_FOUR)
    coordinator = TinyCoordinator(sites)
    coordinator.open()
    coordinator.whole(cohort=(1, 2, 3))
    coordinator.whole(cohort=(1, 2, 3))
    step = coordinator.step()
    assert coordinator.send(step, 4) == Refusal(Reason.MISSING_SUMS, newest_run=0)
    assert coordinator.send(coordinator.with_sums(step, coordinator.sums), 4) == Running()
    assert coordinator.send_all(step, (1, 2, 3)) == dict.fromkeys((1, 2, 3), Running())
    sites.sleep(SLOT)
    found = coordinator.added(step, coordinator.send_all(step))
    assert found.lanes[coordinator.sealed.lanes] == 0
    coordinator.take(found)
    assert {len(ledger.entries()) for ledger in sites.ledgers.values()} == {1, 3}
    sites.close()


def test_the_cohort_changes_as_often_as_the_study_allows_and_no_more(tmp_path: Path) -> None:
    """Over all steps, sessions and restarts: 2 A + 2 times, so twice without a spare attempt."""
    study = sealed_study_of_four(rounds=5, spare=0)
    sites = SealedSites(tmp_path, study, MEMBERS_OF_FOUR)
    coordinator = TinyCoordinator(sites)
    coordinator.open()
    coordinator.whole()
    coordinator.whole(cohort=(1, 2, 3))
    sites.start(1)
    coordinator.open()
    step = coordinator.with_sums(coordinator.step(), coordinator.sums)
    for site in step.cohort:
        assert coordinator.send(step, site) == Running()
    sites.sleep(SLOT)
    coordinator.take(coordinator.added(step, coordinator.send_all(step)))
    before = state_of(sites, 1)
    changed = coordinator.step(cohort=(1, 2, 3))
    assert check_of(coordinator.send(changed, 1)) is Check.COHORT_CHANGES
    assert state_of(sites, 1) == before
    coordinator.whole()
    sites.close()


def test_attempts_that_nothing_left_of_take_nothing_away_from_the_study(tmp_path: Path) -> None:
    """Begun and superseded: never charged. At one step they count, as a restart would charge them.

    T = 3 and A = 2: five charges at most, of which each step here takes one.
    """
    sites = SealedSites(tmp_path, policy={"max_lost_attempts": 9})
    coordinator = TinyCoordinator(sites)
    coordinator.open()
    for number in (1, 2, 3):
        for attempt in (1, 2):
            coordinator.begun(attempt)
        coordinator.whole(3)
        charged = [entry.state is State.COMMITTED for entry in sites.ledgers[1].entries()]
        assert sum(charged) == number
        assert len(charged) == 3 * number
    sites.close()


def test_a_restart_never_charges_more_than_the_study_may(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """Two of five are charged, and three are open at one step: all five, and no sixth."""
    coordinator.open()
    coordinator.whole()
    coordinator.whole()
    for attempt in (1, 2, 3):
        coordinator.begun(attempt)
    sites.start(1)
    charged = [entry.state is State.COMMITTED for entry in sites.ledgers[1].entries()]
    assert sum(charged) == sites.study.most_attempts == 5
    found = sites.agents[1]._account.admitted(AttemptKey(sites.study.digest(), RUN + 1, 3, 1))
    assert found == Refusal(Reason.POLICY)

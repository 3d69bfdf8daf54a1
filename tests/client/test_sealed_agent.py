"""The agent of a pooled study: what it answers to sessions and steps, and what that changes."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.agent.sealed_agent import SealedAgent
from privacy.errors import LedgerError, SecAggError
from privacy.ledger import AttemptKey, State
from privacy.wire.bodies import Body, Refusal, Running, RunOver, SignedFacts
from privacy.wire.checks import Check
from privacy.wire.reasons import Reason
from privacy.wire.sealed import Sealed, SealedCollect, SealedReady, StepForm
from privacy.wire.secagg import SecAggRefusal, lane_bytes
from privacy.wire.session import SessionKey

from .fakes import full_disk, refused
from .sealed import (
    MEMBERS_OF_FOUR,
    PATIENTS,
    RUN,
    P,
    SealedSites,
    TinyCoordinator,
    sealed_study_of_four,
    state_of,
)

SLOT = 60.0  # seconds, as in the study


def check_of(body: Body) -> Check:
    assert isinstance(body, SecAggRefusal), body
    return body.check


def test_a_whole_study_of_three_sites(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    coordinator.open()
    found = [coordinator.whole() for _ in range(sites.study.rounds)]
    assert coordinator.chain.adapter.shape == (P,)
    for site, ledger in sites.ledgers.items():
        entries = ledger.entries()
        assert [entry.state for entry in entries] == [State.COMMITTED] * 3, site
        assert [entry.mark.label for entry in entries] == [one.label for one in found]
        assert {(entry.mark.session, entry.mark.cohort) for entry in entries} == {(1, (1, 2, 3))}
        assert [entry.charge.event for entry in entries] == [sites.rules(site).mechanism.event] * 3


def test_the_sum_that_opens_is_everybodys_noised(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """500 patients each, noise of sigma = 5 in all: the mean is right to a few thousandths of C."""
    coordinator.open()
    coordinator.whole()
    exact = sum(trainer.sum_at(np.zeros(P)) for trainer in sites.trainers.values())
    mean = exact / 2**30 / (3 * PATIENTS)
    assert np.abs(coordinator.mean() - mean).max() < 6 * 5.0 * 3**0.5 / 2**0.5 / (3 * PATIENTS)


def test_the_ledger_holds_the_hash_of_what_left(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    for site, answer in coordinator.send_all(step).items():
        assert isinstance(answer, Sealed)
        (entry,) = sites.ledgers[site].entries()
        assert entry.sent == hashlib.sha256(lane_bytes(answer.lanes)).digest()


def test_a_greeting_is_answered_as_by_any_agent(coordinator: TinyCoordinator) -> None:
    said = coordinator.hello(1)
    assert isinstance(said, SignedFacts)
    assert (said.facts.parameters, said.facts.newest_run) == (P, 0)
    assert 0 < said.facts.epsilon_schedule < said.facts.epsilon_budget


def test_running_until_the_slot_whatever_training_does(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    step = coordinator.begun()
    for _ in range(3):
        assert coordinator.send(step, 1) == Running()
        sites.sleep(SLOT / 3 - 0.01)
    assert coordinator.send(step, 1) == Running()
    assert sites.ledgers[1].entries()[0].state is State.INTENT
    sites.sleep(0.03)
    assert isinstance(coordinator.send(step, 1), Sealed)
    assert sites.ledgers[1].entries()[0].state is State.COMMITTED


def test_the_same_bytes_get_the_same_answer(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    first = coordinator.bytes_of(step, 1)
    length = len(sites.ledgers[1].entries())
    assert [coordinator.bytes_of(step, 1) for _ in range(3)] == [first] * 3
    assert len(sites.ledgers[1].entries()) == length
    assert sites.trainers[1].calls == 1


def test_what_rides_behind_the_signature_makes_no_other_request(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    first = coordinator.bytes_of(step, 1)
    assert coordinator.bytes_of(coordinator.without_opening(step), 1) == first


def test_no_mask_is_made_and_nothing_trains_without_a_durable_intent(
    sites: SealedSites, coordinator: TinyCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator.open()
    before = state_of(sites, 1)
    monkeypatch.setattr(sites.ledgers[1], "intent", full_disk)
    assert refused(coordinator.send(coordinator.step(), 1)) is Reason.INTERNAL
    assert state_of(sites, 1) == before
    assert sites.trainers[1].calls == 0
    monkeypatch.undo()
    coordinator.whole()


def test_no_key_leaves_before_the_sessions_number_is_on_disk(
    sites: SealedSites, coordinator: TinyCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sites.ledgers[1], "begin_session", full_disk)
    assert refused(coordinator.ask(1, coordinator.offered())) is Reason.INTERNAL
    assert sites.agents[1]._machine is None
    assert sites.ledgers[1].head().sequence == 0


@pytest.mark.parametrize("method", ["commit", "sent"])
def test_no_vector_leaves_without_a_durable_charge_and_its_hash(
    method: str,
    sites: SealedSites,
    coordinator: TinyCoordinator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    with monkeypatch.context() as patch:
        patch.setattr(sites.ledgers[1], method, full_disk)
        for _ in range(2):
            assert refused(coordinator.send(step, 1)) is Reason.INTERNAL
    answers = coordinator.send_all(step)
    assert coordinator.added(step, answers).lanes[coordinator.sealed.lanes] == 0
    (entry,) = sites.ledgers[1].entries()
    assert entry.sent == hashlib.sha256(lane_bytes(answers[1].lanes)).digest()  # type: ignore[attr-defined]


def test_the_charge_is_on_disk_before_the_vector_is_even_looked_at(
    sites: SealedSites, coordinator: TinyCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    attempt = sites.agents[1]._attempt
    assert attempt is not None
    states = []

    def looked(moment: float) -> None:
        states.append(sites.ledgers[1].entries()[0].state)

    monkeypatch.setattr(attempt.work, "result_by", looked)
    assert refused(coordinator.send(step, 1)) is Reason.NO_UPDATE
    assert states == [State.COMMITTED]


def late(sites: SealedSites, gate: threading.Event) -> None:
    sites.trainers[1].before = lambda: gate.wait(20)


def failing(sites: SealedSites, gate: threading.Event) -> None:
    sites.trainers[1].before = full_disk


def too_long(sites: SealedSites, gate: threading.Event) -> None:
    sites.trainers[1].change = lambda total: total + (PATIENTS << 31)


def too_long_by_a_hair(sites: SealedSites, gate: threading.Event) -> None:
    """No number is longer than all patients' clip; together they are, by a hundredth."""
    each = int(1.01 * (PATIENTS << 30) / np.sqrt(P))
    sites.trainers[1].change = lambda total: np.full_like(total, each)


def another_shape(sites: SealedSites, gate: threading.Event) -> None:
    sites.trainers[1].change = lambda total: total[1:]


@pytest.mark.parametrize("fault", [late, failing, too_long, too_long_by_a_hair, another_shape])
def test_late_and_failed_training_look_the_same_and_cost_the_same(
    fault: Callable[[SealedSites, threading.Event], None],
    sites: SealedSites,
    coordinator: TinyCoordinator,
) -> None:
    gate = threading.Event()
    fault(sites, gate)
    coordinator.open()
    step = coordinator.begun()
    running = coordinator.bytes_of(step, 1)
    sites.sleep(SLOT, wait=fault is not late)
    answer = coordinator.bytes_of(step, 1)
    gate.set()
    assert coordinator.bytes_of(step, 1) == answer
    assert coordinator.opened(answer) == Refusal(Reason.NO_UPDATE)
    assert coordinator.opened(running) == Running()
    (entry,) = sites.ledgers[1].entries()
    assert (entry.state, entry.sent) == (State.COMMITTED, b"")
    sites.sleep(0)  # the late one ends
    sites.trainers[1].before = lambda: None
    sites.trainers[1].change = lambda total: total
    coordinator.whole(2)  # and the next attempt opens
    assert [entry.state for entry in sites.ledgers[1].entries()] == [State.COMMITTED] * 2


def test_a_newer_attempt_takes_the_older_ones_place_at_no_charge(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    first = coordinator.begun()
    coordinator.whole(2)
    assert [entry.state for entry in sites.ledgers[1].entries()] == [State.INTENT, State.COMMITTED]
    assert refused(coordinator.send(first, 1)) is Reason.NOT_NEWER


def test_a_retry_has_fresh_noise(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    one = coordinator.added(step, coordinator.send_all(step))
    other = coordinator.whole(2)
    assert (one.lanes != other.lanes).any()
    assert (one.label, one.step) != (other.label, other.step)


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
    sites: SealedSites, coordinator: TinyCoordinator
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
    assert state_of(sites, 1) == before
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


def test_commitments_are_free_and_the_collection_is_charged(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    step = coordinator.begun(form=StepForm.READY)
    sites.sleep(SLOT)
    ready = coordinator.send_all(step)
    assert ready == coordinator.send_all(step)
    assert [entry.state for entry in sites.ledgers[1].entries()] == [State.INTENT]
    collect = coordinator.collect(step, ready)
    cut = SealedCollect(collect.label, collect.commitments[:2])
    assert check_of(coordinator.ask(1, cut, 1, 1)) is Check.COMMITMENT
    assert [entry.state for entry in sites.ledgers[1].entries()] == [State.INTENT]
    vectors = {site: coordinator.ask(site, collect, 1, 1) for site in step.cohort}
    assert coordinator.added(step, vectors).lanes[coordinator.sealed.lanes] == 0
    assert [entry.state for entry in sites.ledgers[1].entries()] == [State.COMMITTED]
    assert coordinator.ask(1, collect, 1, 1) == vectors[1]


def test_that_there_is_nothing_to_commit_to_is_charged(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    sites.trainers[1].before = full_disk
    coordinator.open()
    step = coordinator.begun(form=StepForm.READY)
    sites.sleep(SLOT)
    assert refused(coordinator.send(step, 1)) is Reason.NO_UPDATE
    assert refused(coordinator.send(step, 1)) is Reason.NO_UPDATE
    assert isinstance(coordinator.send(step, 2), SealedReady)
    assert [entry.state for entry in sites.ledgers[1].entries()] == [State.COMMITTED]
    assert [entry.state for entry in sites.ledgers[2].entries()] == [State.INTENT]


def test_two_trainings_under_one_label_make_one_vector(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """A snapshot of the machine, put back after it has drawn, draws the same noise again."""
    coordinator.open()
    coordinator.begun()
    sites.sleep(0)
    agent = sites.agents[1]
    attempt: Any = agent._attempt
    train = agent._sealing.training(agent._trainer, agent._machine, attempt.pending)
    hooks: dict[str, Any] = {"progress": lambda *_: None, "should_stop": lambda: False}
    again = train(agent._chain.current.adapter, **hooks)
    assert (again == attempt.work.result).all()
    sites.trainers[1].present[0] = False
    with pytest.raises(SecAggError, match="one label, one vector"):
        train(agent._chain.current.adapter, **hooks)


def test_after_stop_nothing_leaves(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    assert sites.agents[1].stop(5)
    assert refused(coordinator.send(step, 1)) is Reason.STOPPED
    assert sites.ledgers[1].entries()[0].state is State.INTENT


def test_no_key_and_no_sum_is_logged_or_shown(
    sites: SealedSites,
    coordinator: TinyCoordinator,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = "canary-patient-7"

    def leaky(*_: object) -> None:
        raise LedgerError(secret)

    sites.trainers[1].before = lambda: leaky()
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    answer = coordinator.bytes_of(step, 1)
    assert secret.encode() not in answer
    assert sites.agents[1]._machine is not None
    shown = repr(sites.agents[1]._machine) + repr(sites.agents[1]._machine._session)
    assert "noise" not in shown


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

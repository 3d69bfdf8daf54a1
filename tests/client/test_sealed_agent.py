"""The agent of a pooled study: what it answers to sessions and steps, and what that changes."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from privacy.errors import DataError, SecAggError
from privacy.ledger import State
from privacy.wire.bodies import Refusal, Running, SignedFacts
from privacy.wire.checks import Check
from privacy.wire.reasons import Reason
from privacy.wire.sealed import Sealed, SealedCollect, SealedReady, StepForm
from privacy.wire.secagg import lane_bytes

from .fakes import full_disk, refused
from .sealed import (
    PATIENTS,
    SLOT,
    P,
    SealedSites,
    TinyCoordinator,
    check_of,
    state_of,
)


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


def test_a_retry_has_fresh_noise(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    coordinator.open()
    step = coordinator.begun()
    sites.sleep(SLOT)
    one = coordinator.added(step, coordinator.send_all(step))
    other = coordinator.whole(2)
    assert (one.lanes != other.lanes).any()
    assert (one.label, one.step) != (other.label, other.step)


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


def test_no_key_and_no_error_of_training_is_logged_or_shown(
    sites: SealedSites, coordinator: TinyCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    told = "canary-patient-7"

    def leaky(*_: object) -> None:
        raise DataError(told)

    sites.trainers[1].before = lambda: leaky()
    coordinator.open()
    step = coordinator.begun()
    machine = sites.agents[1]._machine
    assert machine is not None
    session, opened = machine._session, machine._open
    assert session is not None and session.keys is not None and opened is not None
    secrets = [*session.keys.pairs.values(), session.secret, opened._secrets.mac]  # type: ignore[union-attr]
    sites.sleep(SLOT)
    assert told.encode() not in coordinator.bytes_of(step, 1)
    shown = caplog.text + repr(machine) + repr(session) + repr(opened)
    assert told not in shown
    for secret in secrets:
        assert len(secret) == 32
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown

"""The agent's training thread: one at a time, stopped, or not to be had."""

from __future__ import annotations

import threading

import pytest

from client.agent.site_agent import SiteAgent
from privacy.ledger import SqliteLedger
from privacy.wire.bodies import Running
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise, MaskedInput
from tests.privacy.ledger.ledgers import spent_by

from .fakes import FakeTrainer, ask, hello, make_agent, make_rules, refused
from .masked import collect, looked, start
from .studies import make_study


def test_after_stop_nothing_leaves(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    trainer.gate.clear()
    start(agent)
    assert trainer.entered.wait(10)
    assert agent.stop(10)
    assert trainer.cancelled == 1
    assert refused(looked(agent)) == Reason.STOPPED
    assert refused(ask(agent, hello())) == Reason.STOPPED
    assert refused(start(agent, round=2)) == Reason.STOPPED
    assert spent_by(ledger) == 0


def test_a_finished_update_does_not_leave_after_stop(
    agent: SiteAgent, ledger: SqliteLedger
) -> None:
    start(agent)
    assert agent._attempt is not None
    assert agent._attempt.work.wait(10)
    assert agent.stop(10)
    assert refused(collect(agent)) == Reason.STOPPED
    assert spent_by(ledger) == 0


def test_stop_tells_when_training_does_not_end(agent: SiteAgent, trainer: FakeTrainer) -> None:
    release = threading.Event()
    trainer.on_start = lambda: release.wait(10) and None
    start(agent)
    assert not agent.stop(0.05)
    release.set()
    assert agent.stop(10)


def test_handle_does_not_wait_for_training(agent: SiteAgent, trainer: FakeTrainer) -> None:
    trainer.gate.clear()
    assert isinstance(start(agent), Advertise)
    assert isinstance(start(agent, attempt=2), Advertise)
    assert looked(agent, attempt=2) == Running()


def test_attempts_that_wait_in_vain_hold_no_threads_and_no_adapters(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    """A coordinator may start any number of attempts within one physical batch."""
    study = make_study(rounds=40)
    rules = make_rules(study=study, policy={"allow_partial": True})  # few will be charged
    agent = make_agent(ledger, trainer, rules)
    release = threading.Event()
    trainer.on_start = lambda: release.wait(10) and None
    start(agent, study, round=1)
    works = []
    for number in range(2, 40):
        assert isinstance(start(agent, study, round=number), Advertise)
        assert agent._attempt is not None
        works.append(agent._attempt.work)
    assert all(work.wait(10) for work in works[:-1])
    assert {len(work._adapter) for work in works[:-1]} == {0}
    assert works[-1].result is None
    assert trainer.calls == 1
    release.set()
    assert isinstance(collect(agent, study, round=39), MaskedInput)
    assert trainer.calls == 2


def test_an_attempt_without_a_thread_fails_and_the_next_one_works(
    agent: SiteAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more_threads(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        start(agent)
    assert refused(collect(agent)) == Reason.NO_UPDATE
    assert isinstance(start(agent, round=2), Advertise)
    assert isinstance(collect(agent, round=2), MaskedInput)

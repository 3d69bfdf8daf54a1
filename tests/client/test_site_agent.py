from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.agent.progress import ProgressEvent
from client.agent.release import installed_release
from client.agent.service import _coarse
from client.agent.site_agent import SiteAgent
from client.data import load_site_data
from privacy.budget import cost_of_attempts
from privacy.errors import DataError
from privacy.ledger import AttemptKey, Charge, SqliteLedger, State
from privacy.secagg.server import Stage
from privacy.study.manifest import Study
from privacy.study.terms import event_of
from privacy.wire.bodies import Body, Hello, Refusal, Running, SiteFacts, StartTraining
from privacy.wire.codec import Vector
from privacy.wire.offer import TrainMasked
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise, Deliver, MaskedInput, masked_size_limit
from tests.privacy.ledger.ledgers import book_of, spent_by

from .fakes import (
    ADAPTER,
    LAYOUT,
    RUN,
    FakeTrainer,
    P,
    full_disk,
    greeted,
    hello,
    make_agent,
    message,
    opened,
    refused,
    snapshot,
)
from .masked import MaskedAttempt, attempt_of, collect, look, looked, start
from .pictures import write_folder
from .studies import ROSTER, make_study

STUDY = make_study()
CHARGE = Charge(STUDY.digest(), event_of(STUDY), 1e-5)


def test_hello_tells_public_facts(agent: SiteAgent) -> None:
    expected = SiteFacts(
        name="north",
        declared_patients=10,
        study_digest=STUDY.digest(),
        base_digest=b"\xab" * 32,
        layout_fingerprint=LAYOUT.fingerprint(),
        parameters=P,
        epsilon_spent=0.0,
        epsilon_budget=20.0,
        delta=1e-5,
        roster_digest=ROSTER.digest(),
        noise_multiplier=STUDY.training.noise_multiplier,
        epsilon_schedule=cost_of_attempts(CHARGE, STUDY.rounds * STUDY.privacy.attempts),
        newest_run=0,
        release=installed_release(),
    )
    assert greeted(agent) == expected


def test_a_round_from_start_to_update(agent: SiteAgent, ledger: SqliteLedger) -> None:
    assert isinstance(start(agent), Advertise)
    assert isinstance(collect(agent), MaskedInput)
    attempt = attempt_of(agent)
    attempt.to(Stage.DONE, agent)
    # The others', and its own: ones, at its share of the patients.
    shares = {1: 10 / 60, 2: 20 / 60, 3: 30 / 60}
    updates = {1: 1.0, **{site: update[0] for site, update in attempt.updates.items()}}
    total = sum(shares[site] * update for site, update in updates.items())
    assert np.allclose(attempt.total(), total, atol=0.01)
    facts = greeted(agent)
    assert isinstance(facts, SiteFacts)
    assert (
        facts.epsilon_spent == spent_by(ledger) == book_of(ledger).study_epsilon(STUDY.digest()) > 0
    )
    assert [entry.state for entry in ledger.entries()] == [State.COMMITTED]


def test_collect_while_training_tells_nothing_of_its_pace(
    agent: SiteAgent, trainer: FakeTrainer
) -> None:
    trainer.gate.clear()
    start(agent)
    assert trainer.entered.wait(10)
    assert agent._attempt is not None
    for done in (0, 1, 7, 8):
        agent._attempt.work._note(done, 8)
        assert looked(agent) == Running()


def test_the_intent_is_journalled_before_training_begins(
    agent: SiteAgent, trainer: FakeTrainer, ledger: SqliteLedger
) -> None:
    seen: list[Any] = []
    trainer.on_start = lambda: seen.extend(ledger.entries())
    start(agent)
    collect(agent)
    assert [(entry.key, entry.state) for entry in seen] == [
        (AttemptKey(STUDY.digest(), RUN, 1, 1), State.INTENT)
    ]


def test_nothing_is_charged_before_it_is_collected(agent: SiteAgent, ledger: SqliteLedger) -> None:
    start(agent)
    assert agent._attempt is not None
    assert agent._attempt.work.wait(10)
    assert spent_by(ledger) == 0


def test_no_update_leaves_without_a_durable_commit(
    agent: SiteAgent, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(agent)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, "commit", full_disk)
        assert refused(collect(agent)) == Reason.INTERNAL
    assert spent_by(ledger) == 0
    assert isinstance(collect(agent), MaskedInput)
    assert spent_by(ledger) > 0


def behind(method: Any) -> Any:
    """The ledger's `method`, which fails when its record is written: at its head file, say."""

    def fails(*arguments: Any) -> None:
        method(*arguments)
        full_disk()

    return fails


def test_a_charge_that_fails_behind_its_record_counts(
    agent: SiteAgent, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(agent)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, "commit", behind(SqliteLedger.commit))
        assert refused(collect(agent)) == Reason.INTERNAL
    facts = greeted(agent, round=0)
    assert isinstance(facts, SiteFacts)
    assert facts.epsilon_spent == spent_by(ledger) > 0


def test_an_intent_that_fails_behind_its_record_is_the_newest(
    agent: SiteAgent, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, "intent", behind(SqliteLedger.intent))
        assert refused(start(agent, attempt=2)) == Reason.INTERNAL
    assert [entry.state for entry in ledger.entries()] == [State.INTENT]
    assert refused(start(agent, attempt=1)) == Reason.NOT_NEWER


def test_no_training_without_a_durable_intent(
    agent: SiteAgent, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteLedger, "intent", full_disk)
    assert refused(start(agent)) == Reason.INTERNAL
    assert trainer.calls == 0
    assert refused(looked(agent)) == Reason.NOT_STARTED


def test_the_same_bytes_get_the_same_answer(
    agent: SiteAgent, trainer: FakeTrainer, ledger: SqliteLedger
) -> None:
    attempt = attempt_of(agent)
    said = attempt.ask(agent)
    assert isinstance(said, Advertise)
    assert attempt.ask(agent) == said
    attempt.to(Stage.INPUT, agent)
    collect(agent)
    first = look(agent)
    assert first == look(agent)
    assert trainer.calls == 1
    assert len(ledger.entries()) == 1


def test_other_bytes_for_the_same_attempt_conflict(agent: SiteAgent) -> None:
    start(agent)
    attempt = attempt_of(agent)
    other = TrainMasked(attempt.offer, replace(attempt.start, adapter=ADAPTER + 1))
    assert refused(attempt.ask(agent, other)) == Reason.CONFLICT
    assert isinstance(collect(agent), MaskedInput)


def test_a_newer_attempt_cancels_the_older(
    agent: SiteAgent, trainer: FakeTrainer, ledger: SqliteLedger
) -> None:
    trainer.gate.clear()
    start(agent)
    assert trainer.entered.wait(10)
    assert isinstance(start(agent, attempt=2), Advertise)
    assert refused(looked(agent)) == Reason.NOT_STARTED
    assert agent._attempt is not None
    while trainer.cancelled == 0:
        trainer.entered.wait(0.01)
    trainer.gate.set()
    assert isinstance(collect(agent, attempt=2), MaskedInput)
    assert [entry.state for entry in ledger.entries()] == [State.INTENT, State.COMMITTED]


def told(agent: SiteAgent, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """(attempt, phase) as they will cross the socket, without repetitions."""
    seen: list[tuple[int, str]] = []

    def publish(event: ProgressEvent) -> None:
        coarse = _coarse(event)
        if not seen or seen[-1] != (coarse.attempt, coarse.phase):
            seen.append((coarse.attempt, coarse.phase))

    monkeypatch.setattr(agent._progress, "publish", publish)
    return seen


@pytest.mark.parametrize("result", [np.ones_like, lambda adapter: np.full_like(adapter, np.nan)])
def test_how_training_ends_is_told_to_nobody_before_it_is_charged(
    agent: SiteAgent,
    trainer: FakeTrainer,
    ledger: SqliteLedger,
    monkeypatch: pytest.MonkeyPatch,
    result: Callable[[Vector], Vector],
) -> None:
    trainer.result = result
    seen = told(agent, monkeypatch)
    start(agent)
    assert agent._attempt is not None
    assert agent._attempt.work.wait(10)
    assert seen == [(1, "training")]
    collect(agent)
    assert seen == [(1, "training"), (1, "answered")]
    assert [entry.state for entry in ledger.entries()] == [State.COMMITTED]


def test_when_a_cancelled_attempt_really_stops_is_told_to_nobody(
    agent: SiteAgent, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.gate.clear()
    seen = told(agent, monkeypatch)
    start(agent)
    assert trainer.entered.wait(10)
    start(agent, attempt=2)
    assert seen == [(1, "training"), (2, "training")]
    trainer.gate.set()
    collect(agent, attempt=2)
    assert seen == [(1, "training"), (2, "training"), (2, "answered")]


@pytest.mark.parametrize(("round", "attempt"), [(1, 1), (1, 2), (2, 1)])
def test_what_is_not_newer_is_refused(agent: SiteAgent, round: int, attempt: int) -> None:
    start(agent, round=2, attempt=2)
    assert refused(start(agent, round=round, attempt=attempt)) == Reason.NOT_NEWER
    assert isinstance(collect(agent, round=2, attempt=2), MaskedInput)


def test_another_run_starts_afresh(agent: SiteAgent, ledger: SqliteLedger) -> None:
    start(agent, round=2)
    collect(agent, round=2)
    attempt_of(agent, round=2).to(Stage.DONE, agent)
    assert isinstance(start(agent, run=RUN + 1, round=1), Advertise)
    collect(agent, run=RUN + 1)
    assert len(book_of(ledger).of_study(STUDY.digest())) == 2
    assert start(agent, round=3) == Refusal(Reason.OLDER_RUN, newest_run=RUN + 1)


def test_a_restarted_agent_never_resumes(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    start(agent, round=2)
    collect(agent, round=2)
    again = make_agent(ledger, trainer)
    assert refused(looked(again, round=2)) == Reason.NOT_STARTED
    assert refused(start(again, round=2)) == Reason.NOT_NEWER
    assert refused(start(again, round=1, attempt=2)) == Reason.NOT_NEWER
    assert isinstance(start(again, round=2, attempt=2), Advertise)
    assert isinstance(collect(again, round=2, attempt=2), MaskedInput)


UNIT = np.eye(1, P, dtype=np.float32)[0]


def beginning(study: Study = STUDY, adapter: Vector = ADAPTER, **start: Any) -> bytes:
    """What begins an attempt; its offer fits the study and the adapter, as far as one can."""
    body = MaskedAttempt(study, adapter=adapter).beginning()
    return message(replace(body, start=replace(body.start, **start)))


def of_kind(kind: int) -> Body:
    """A message without fields, of this kind."""
    return type("OfKind", (Running,), {"KIND": kind})()


REFUSED = {
    "another study": (lambda: beginning(make_study(rounds=2)), Reason.WRONG_STUDY),
    "hello, other study": (lambda: message(Hello(bytes(32))), Reason.WRONG_STUDY),
    "another layout": (lambda: beginning(layout_fingerprint=bytes(32)), Reason.WRONG_LAYOUT),
    "too short": (lambda: beginning(adapter=ADAPTER[:-1]), Reason.WRONG_LAYOUT),
    "huge": (lambda: beginning(adapter=np.full(P, 1e38, np.float32)), Reason.POLICY),
    "above max_adapter_norm": (lambda: beginning(adapter=301 * UNIT), Reason.POLICY),
    "never started": (lambda: message(Deliver(()), round=3), Reason.NOT_STARTED),
    "not for a site": (lambda: message(Running()), Reason.UNKNOWN_KIND),
    "an adapter alone": (
        lambda: message(StartTraining(STUDY.digest(), LAYOUT.fingerprint(), ADAPTER)),
        Reason.UNKNOWN_KIND,
    ),
    "a kind that nobody knows": (lambda: message(of_kind(200)), Reason.UNKNOWN_KIND),
    "empty": (lambda: b"", Reason.MALFORMED),
    "noise": (lambda: bytes(range(256)), Reason.MALFORMED),
    "trailing": (lambda: beginning() + b"\0", Reason.MALFORMED),
    "unknown field": (lambda: message(hello()) + b"\x78\x01", Reason.MALFORMED),
    "too large": (lambda: bytes(masked_size_limit(3, 0, P) + 1), Reason.TOO_LARGE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_messages_change_nothing(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer, name: str
) -> None:
    make, reason = REFUSED[name]
    data = make()
    trainer.gate.clear()
    start(agent)
    assert trainer.entered.wait(10)
    before = snapshot(agent, ledger)
    assert refused(opened(agent.handle(data)).body) == reason
    assert snapshot(agent, ledger) == before
    trainer.gate.set()
    assert isinstance(collect(agent), MaskedInput)


@pytest.mark.parametrize(
    "result",
    [
        lambda adapter: np.full_like(adapter, np.nan),
        lambda adapter: adapter[1:],
        lambda adapter: adapter.astype(float),
    ],
)
def test_a_useless_result_does_not_leave_and_is_charged(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer, result: Any
) -> None:
    """Whether a noised step overflowed is a function of the noised step: it costs the same."""
    trainer.result = result
    start(agent)
    assert refused(collect(agent)) == Reason.NO_UPDATE
    assert spent_by(ledger) == book_of(ledger).study_epsilon(STUDY.digest()) > 0
    assert refused(collect(agent)) == Reason.NO_UPDATE
    assert len(book_of(ledger).of_study(STUDY.digest())) == 1


def test_a_failure_is_not_told_without_a_durable_commit(
    agent: SiteAgent, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.result = lambda adapter: np.full_like(adapter, np.nan)
    start(agent)
    monkeypatch.setattr(SqliteLedger, "commit", full_disk)
    assert refused(collect(agent)) == Reason.INTERNAL


def test_health_data_stays_in_the_agent(
    tmp_path: Path, ledger: SqliteLedger, caplog: pytest.LogCaptureFixture
) -> None:
    """Planted captions, file names and patient ids reach no reply and no log line."""
    data = load_site_data(write_folder(tmp_path / "canary-folder", patients=4))
    trainer = FakeTrainer()
    replies = []

    def failing(error: type[Exception]) -> None:
        tile = data.tiles[0]
        raise error(f"{tile.path}: {tile.caption} of canary-patient-0")

    def begin(run: int) -> bytes:
        start(agent, run=run)
        attempt = attempt_of(agent, run=run)
        return attempt.envelope(attempt.beginning())  # again: the same answer

    with caplog.at_level(logging.DEBUG):
        agent = make_agent(ledger, trainer)
        errors = [DataError, ValueError, KeyError, OSError, RuntimeError]
        for run, error in enumerate(errors, start=1):
            trainer.on_start = lambda error=error: failing(error)  # type: ignore[misc]
            replies.append(agent.handle(begin(run)))
            assert refused(collect(agent, run=run)) == Reason.NO_UPDATE
            replies.append(look(agent, run=run))
        trainer.on_start = lambda: None
        replies.append(agent.handle(begin(9)))
        assert isinstance(collect(agent, run=9), MaskedInput)
        replies.append(look(agent, run=9))
        replies.append(agent.handle(message(hello())))
        replies.append(agent.handle(b"canary"))
    assert "RuntimeError at test_site_agent.py" in caplog.text
    assert "canary" not in caplog.text
    assert [reply for reply in replies if b"canary" in reply] == []

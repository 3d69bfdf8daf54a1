from __future__ import annotations

import logging
from collections.abc import Callable
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
from privacy.study.terms import event_of
from privacy.wire.bodies import (
    NO_ROSTER,
    Collect,
    Hello,
    Refusal,
    Running,
    SiteFacts,
    Started,
    StartTraining,
    Update,
)
from privacy.wire.codec import Vector
from privacy.wire.envelope import size_limit
from privacy.wire.reasons import Reason
from tests.privacy.ledger.ledgers import book_of, spent_by

from .fakes import (
    ADAPTER,
    LAYOUT,
    RUN,
    FakeTrainer,
    P,
    ask,
    collect,
    full_disk,
    make_agent,
    message,
    opened,
    refused,
    snapshot,
    start,
    start_message,
)
from .pictures import write_folder
from .studies import make_study

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
        masked=False,
        roster_digest=NO_ROSTER,
        noise_multiplier=STUDY.training.noise_multiplier,
        epsilon_schedule=cost_of_attempts(CHARGE, STUDY.rounds * STUDY.privacy.attempts),
        newest_run=0,
        release=installed_release(),
    )
    assert ask(agent, Hello(STUDY.digest())) == expected


def test_a_round_from_start_to_update(agent: SiteAgent, ledger: SqliteLedger) -> None:
    assert start(agent) == Started()
    update = collect(agent)
    assert isinstance(update, Update)
    assert np.array_equal(update.delta, np.ones(P))
    assert (
        update.epsilon_spent
        == spent_by(ledger)
        == book_of(ledger).study_epsilon(STUDY.digest())
        > 0
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
        assert ask(agent, Collect()) == Running()


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
    assert isinstance(collect(agent), Update)
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
    facts = ask(agent, Hello(STUDY.digest()), round=0)
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
    assert refused(ask(agent, Collect())) == Reason.NOT_STARTED


def test_the_same_bytes_get_the_same_answer(
    agent: SiteAgent, trainer: FakeTrainer, ledger: SqliteLedger
) -> None:
    assert start(agent) == start(agent) == Started()
    collect(agent)
    first = agent.handle(message(Collect()))
    assert first == agent.handle(message(Collect()))
    assert start(agent) == Started()
    assert trainer.calls == 1
    assert len(ledger.entries()) == 1


def test_other_bytes_for_the_same_attempt_conflict(agent: SiteAgent) -> None:
    start(agent)
    other = start_message(adapter=ADAPTER + 1)
    assert refused(opened(agent.handle(other)).body) == Reason.CONFLICT
    assert isinstance(collect(agent), Update)


def test_a_newer_attempt_cancels_the_older(
    agent: SiteAgent, trainer: FakeTrainer, ledger: SqliteLedger
) -> None:
    trainer.gate.clear()
    start(agent)
    assert trainer.entered.wait(10)
    assert start(agent, attempt=2) == Started()
    assert refused(ask(agent, Collect())) == Reason.NOT_STARTED
    assert agent._attempt is not None
    while trainer.cancelled == 0:
        trainer.entered.wait(0.01)
    trainer.gate.set()
    assert isinstance(collect(agent, attempt=2), Update)
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
    assert isinstance(collect(agent, round=2, attempt=2), Update)


def test_another_run_starts_afresh(agent: SiteAgent, ledger: SqliteLedger) -> None:
    start(agent, round=2)
    collect(agent, round=2)
    assert start(agent, run=RUN + 1, round=1) == Started()
    collect(agent, run=RUN + 1)
    assert len(book_of(ledger).of_study(STUDY.digest())) == 2
    assert start(agent, round=3) == Refusal(Reason.OLDER_RUN, newest_run=RUN + 1)


def test_a_restarted_agent_never_resumes(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    start(agent, round=2)
    collect(agent, round=2)
    again = make_agent(ledger, trainer)
    assert refused(ask(again, Collect(), round=2)) == Reason.NOT_STARTED
    assert refused(start(again, round=2)) == Reason.NOT_NEWER
    assert refused(start(again, round=1, attempt=2)) == Reason.NOT_NEWER
    assert start(again, round=2, attempt=2) == Started()
    assert isinstance(collect(again, round=2, attempt=2), Update)


UNIT = np.eye(1, P, dtype=np.float32)[0]
OTHER_LAYOUT = message(StartTraining(STUDY.digest(), bytes(32), ADAPTER))
REFUSED = {
    "another study": (start_message(make_study(rounds=2)), Reason.WRONG_STUDY),
    "hello, other study": (message(Hello(bytes(32))), Reason.WRONG_STUDY),
    "another layout": (OTHER_LAYOUT, Reason.WRONG_LAYOUT),
    "too short": (start_message(adapter=ADAPTER[:-1]), Reason.WRONG_LAYOUT),
    "huge": (start_message(adapter=np.full(P, 1e38, np.float32)), Reason.POLICY),
    "above max_adapter_norm": (start_message(adapter=301 * UNIT), Reason.POLICY),
    "never started": (message(Collect(), round=3), Reason.NOT_STARTED),
    "not for a site": (message(Started()), Reason.UNKNOWN_KIND),
    "an update": (message(Update(LAYOUT.fingerprint(), ADAPTER, 1.0)), Reason.UNKNOWN_KIND),
    "empty": (b"", Reason.MALFORMED),
    "noise": (bytes(range(256)), Reason.MALFORMED),
    "trailing": (start_message() + b"\0", Reason.MALFORMED),
    "unknown field": (message(Collect()) + b"\x78\x01", Reason.MALFORMED),
    "too large": (bytes(size_limit(P) + 1), Reason.TOO_LARGE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_messages_change_nothing(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer, name: str
) -> None:
    data, reason = REFUSED[name]
    trainer.gate.clear()
    start(agent)
    assert trainer.entered.wait(10)
    before = snapshot(agent, ledger)
    assert refused(opened(agent.handle(data)).body) == reason
    assert snapshot(agent, ledger) == before
    trainer.gate.set()
    assert isinstance(collect(agent), Update)


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

    with caplog.at_level(logging.DEBUG):
        agent = make_agent(ledger, trainer)
        errors = [DataError, ValueError, KeyError, OSError, RuntimeError]
        for run, error in enumerate(errors, start=1):
            trainer.on_start = lambda error=error: failing(error)  # type: ignore[misc]
            replies.append(agent.handle(start_message(run=run)))
            assert refused(collect(agent, run=run)) == Reason.NO_UPDATE
            replies.append(agent.handle(message(Collect(), run=run)))
        trainer.on_start = lambda: None
        replies.append(agent.handle(start_message(run=9)))
        assert isinstance(collect(agent, run=9), Update)
        replies.append(agent.handle(message(Collect(), run=9)))
        replies.append(agent.handle(message(Hello(STUDY.digest()))))
        replies.append(agent.handle(b"canary"))
    assert "RuntimeError at test_site_agent.py" in caplog.text
    assert "canary" not in caplog.text
    assert [reply for reply in replies if b"canary" in reply] == []

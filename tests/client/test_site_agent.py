from __future__ import annotations

import logging
import math
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.agent.progress import ProgressEvent
from client.agent.service import _coarse
from client.agent.site_agent import SiteAgent
from client.data import load_site_data
from privacy.errors import DataError, LedgerError
from privacy.events import event_of
from privacy.ledger import AttemptKey, Charge, SqliteLedger, State
from privacy.wire.bodies import (
    Body,
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
from tests.privacy.ledger.ledgers import open_test_ledger

from .fakes import (
    ADAPTER,
    LAYOUT,
    RUN,
    FakeTrainer,
    P,
    ask,
    collect,
    make_agent,
    make_rules,
    message,
    opened,
    start,
    start_message,
)
from .pictures import write_folder
from .studies import make_study

STUDY = make_study()
CHARGE = Charge(STUDY.digest(), event_of(STUDY), 1e-5)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with open_test_ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def trainer() -> FakeTrainer:
    return FakeTrainer()


@pytest.fixture
def agent(ledger: SqliteLedger, trainer: FakeTrainer) -> Iterator[SiteAgent]:
    agent = make_agent(ledger, trainer)
    yield agent
    trainer.gate.set()
    assert agent.stop(10)


def snapshot(agent: SiteAgent, ledger: SqliteLedger) -> tuple[object, ...]:
    """All state that a message could change."""
    attempt = agent._attempt
    return ledger.entries(), dict(agent._newest), attempt, attempt and attempt.reply


def refused(body: Body) -> Reason:
    assert isinstance(body, Refusal)
    return body.reason


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
    )
    assert ask(agent, Hello(STUDY.digest())) == expected


def test_a_round_from_start_to_update(agent: SiteAgent, ledger: SqliteLedger) -> None:
    assert start(agent) == Started()
    update = collect(agent)
    assert isinstance(update, Update)
    assert np.array_equal(update.delta, np.ones(P))
    assert update.epsilon_spent == ledger.spent() == ledger.spent_in(STUDY.digest()) > 0
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


@pytest.mark.parametrize("result", [np.ones_like, np.sqrt])  # an update; a failure: not finite
@pytest.mark.parametrize(("took", "leaves"), [(0.0, 5.0), (4.9, 5.0), (5.1, 10.0), (17.0, 20.0)])
def test_what_training_gave_leaves_at_public_time_slots_only(
    ledger: SqliteLedger, took: float, leaves: float, result: Callable[[Vector], Vector]
) -> None:
    study = make_study(cohort={"min_sites": 1, "round_deadline": 60.0, "reply_slot": 5.0})
    now, trainer = [100.0], FakeTrainer()
    trainer.result = lambda adapter: result(adapter - 1)
    trainer.on_start = lambda: now.__setitem__(0, 100.0 + took)
    agent = make_agent(ledger, trainer, make_rules(study=study), clock=lambda: now[0])
    assert start(agent, study=study) == Started()
    assert agent._attempt is not None
    assert agent._attempt.work.wait(10)
    now[0] = 100.0 + leaves - 0.01
    assert ask(agent, Collect()) == Running()
    assert [entry.state for entry in ledger.entries()] == [State.INTENT]
    now[0] = 100.0 + leaves
    assert isinstance(ask(agent, Collect()), Update | Refusal)
    assert [entry.state for entry in ledger.entries()] == [State.COMMITTED]


def test_the_intent_is_journalled_before_training_begins(
    agent: SiteAgent, trainer: FakeTrainer, ledger: SqliteLedger
) -> None:
    seen: list[Any] = []
    trainer.on_start = lambda: seen.extend(ledger.entries())
    start(agent)
    collect(agent)
    assert [(entry.key, entry.state) for entry in seen] == [(AttemptKey(RUN, 1, 1), State.INTENT)]


def test_nothing_is_charged_before_it_is_collected(agent: SiteAgent, ledger: SqliteLedger) -> None:
    start(agent)
    assert agent._attempt is not None
    assert agent._attempt.work.wait(10)
    assert ledger.spent() == 0


def full_disk(*_: object) -> None:
    raise LedgerError("The disk is full.")


def test_no_update_leaves_without_a_durable_commit(
    agent: SiteAgent, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(agent)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteLedger, "commit", full_disk)
        assert refused(collect(agent)) == Reason.INTERNAL
    assert ledger.spent() == 0
    assert isinstance(collect(agent), Update)
    assert ledger.spent() > 0


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
    assert start(agent, run=7, round=1) == Started()
    collect(agent, run=7)
    assert ledger.rounds(STUDY.digest()) == 2
    assert refused(start(agent, round=1)) == Reason.NOT_NEWER


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


def test_the_epsilon_after_the_round_is_held_against_the_budget(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    first = ledger.spent(CHARGE)
    budget = first * 1.01
    agent = make_agent(ledger, trainer, make_rules(policy={"study_epsilon": budget}))
    start(agent)
    collect(agent)
    before = snapshot(agent, ledger)
    refusal = start(agent, round=2)
    assert refusal == Refusal(Reason.BUDGET, first, ledger.spent(CHARGE), budget)
    assert snapshot(agent, ledger) == before
    assert trainer.calls == 1


def test_a_refusal_is_logged_with_the_figures_of_a_way_on(
    ledger: SqliteLedger, trainer: FakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    budget = ledger.spent(CHARGE) * 1.1
    agent = make_agent(ledger, trainer, make_rules(policy={"study_epsilon": budget}))
    start(agent)
    collect(agent)
    with caplog.at_level(logging.WARNING):
        assert refused(start(agent, round=2)) == Reason.BUDGET
    figures = rf"Round 2 refused: spent {ledger.spent():.2f}, this round would make "
    assert figures + rf"{ledger.spent(CHARGE):.2f}, budget {budget:.2f}; " in caplog.text
    assert re.search(r"\d+ rounds? at q = 0\.\d+ would fit\.", caplog.text)


def test_what_other_studies_spent_counts_and_is_not_told(
    ledger: SqliteLedger, trainer: FakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that leaves differs from a site without other studies, up to the refusal itself."""
    other = make_study(name="other")
    key = AttemptKey(5, 1, 1)
    ledger.intent(key, Charge(other.digest(), event_of(other), 1e-5))
    ledger.commit(key)
    own = ledger.spent_in(STUDY.digest(), CHARGE)
    rules = make_rules(policy={"epsilon": 2.2 * own, "study_epsilon": 2.0 * own})
    agent = make_agent(ledger, trainer, rules)
    facts = ask(agent, Hello(STUDY.digest()))
    assert isinstance(facts, SiteFacts)
    assert (facts.epsilon_spent, facts.epsilon_budget) == (0.0, 2.0 * own)
    assert start(agent) == Started()
    update = collect(agent)
    assert isinstance(update, Update)
    assert update.epsilon_spent == own
    assert ledger.spent() == pytest.approx(2 * own)
    refusal = start(agent, round=2)
    after = ledger.spent_in(STUDY.digest(), CHARGE)
    assert refusal == Refusal(Reason.BUDGET, own, after, 2.0 * own)
    assert "all studies together: spent" in caplog.text


def test_a_study_has_its_rounds_and_attempts_once_whatever_the_run(
    ledger: SqliteLedger, trainer: FakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """3 rounds x 2 attempts, charged or lost: a seventh is refused, also under a new run."""
    agent = make_agent(ledger, trainer)
    for run in (1, 2, 3):
        assert start(agent, run=run) == Started()  # superseded by the next: lost
    for number in (1, 2, 3):
        assert start(agent, run=4, round=number) == Started()
        assert isinstance(collect(agent, run=4, round=number), Update)
    before = snapshot(agent, ledger)
    assert refused(start(agent, run=5)) == Reason.POLICY
    assert refused(start(agent, run=4, round=3, attempt=2)) == Reason.POLICY
    assert snapshot(agent, ledger) == before
    assert "all of its 3 rounds x 2 attempts" in caplog.text
    other = make_study(name="other")
    beside = make_agent(ledger, trainer, make_rules(study=other))
    assert start(beside, other, run=6) == Started()


@pytest.mark.parametrize("key", [{"round": 0}, {"round": 4}, {"attempt": 0}, {"attempt": 3}])
def test_rounds_and_attempts_are_the_studys(
    agent: SiteAgent, ledger: SqliteLedger, key: dict[str, int]
) -> None:
    assert refused(start(agent, **key)) == Reason.POLICY
    assert ledger.entries() == ()


OTHER_LAYOUT = message(StartTraining(STUDY.digest(), bytes(32), ADAPTER))
REFUSED = {
    "another study": (start_message(make_study(rounds=2)), Reason.WRONG_STUDY),
    "hello, other study": (message(Hello(bytes(32))), Reason.WRONG_STUDY),
    "another layout": (OTHER_LAYOUT, Reason.WRONG_LAYOUT),
    "too short": (start_message(adapter=ADAPTER[:-1]), Reason.WRONG_LAYOUT),
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
    assert refused(collect(agent)) == Reason.TRAINING_FAILED
    assert ledger.spent() == ledger.spent_in(STUDY.digest()) > 0
    assert refused(collect(agent)) == Reason.TRAINING_FAILED
    assert ledger.rounds(STUDY.digest()) == 1


def test_a_failure_is_not_told_without_a_durable_commit(
    agent: SiteAgent, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.result = lambda adapter: np.full_like(adapter, np.nan)
    start(agent)
    monkeypatch.setattr(SqliteLedger, "commit", full_disk)
    assert refused(collect(agent)) == Reason.INTERNAL


def test_lost_attempts_are_bounded_for_all_runs_together(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    """Endless new runs neither fill the ledger nor keep the model busy for nothing."""
    agent = make_agent(ledger, trainer, make_rules(policy={"max_lost_attempts": 3}))
    start(agent, run=1)
    assert isinstance(collect(agent, run=1), Update)  # charged, not lost
    for run in (2, 3, 4):
        assert start(agent, run=run) == Started()
    before = snapshot(agent, ledger)
    assert [refused(start(agent, run=run)) for run in range(5, 9)] == [Reason.POLICY] * 4
    assert snapshot(agent, ledger) == before
    assert isinstance(collect(agent, run=4), Update)
    assert start(agent, run=5) == Started()


def test_no_noise_is_recorded_and_told_as_infinite(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    study = make_study(training={"noise_multiplier": 0.0})
    refusing = make_agent(ledger, trainer, make_rules(study=study))
    assert refused(start(refusing, study)) == Reason.POLICY
    allowed = make_rules(study=study, policy={"allow_no_privacy": True})
    agent = make_agent(ledger, trainer, allowed)
    assert start(agent, study) == Started()
    update = collect(agent)
    assert isinstance(update, Update)
    assert update.epsilon_spent == math.inf
    assert ledger.no_privacy()
    assert refused(start(make_agent(ledger, trainer))) == Reason.NOT_NEWER
    assert refused(start(make_agent(ledger, trainer), round=2)) == Reason.BUDGET


def test_after_stop_nothing_leaves(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    trainer.gate.clear()
    start(agent)
    assert trainer.entered.wait(10)
    assert agent.stop(10)
    assert trainer.cancelled == 1
    for body in (Collect(), Hello(STUDY.digest())):
        assert refused(ask(agent, body)) == Reason.STOPPED
    assert refused(start(agent, round=2)) == Reason.STOPPED
    assert ledger.spent() == 0


def test_a_finished_update_does_not_leave_after_stop(
    agent: SiteAgent, ledger: SqliteLedger
) -> None:
    start(agent)
    assert agent._attempt is not None
    assert agent._attempt.work.wait(10)
    assert agent.stop(10)
    assert refused(collect(agent)) == Reason.STOPPED
    assert ledger.spent() == 0


def test_stop_tells_when_training_does_not_end(agent: SiteAgent, trainer: FakeTrainer) -> None:
    release = threading.Event()
    trainer.on_start = lambda: release.wait(10) and None
    start(agent)
    assert not agent.stop(0.05)
    release.set()
    assert agent.stop(10)


def test_handle_does_not_wait_for_training(agent: SiteAgent, trainer: FakeTrainer) -> None:
    trainer.gate.clear()
    replies = [start(agent), start(agent, attempt=2), ask(agent, Collect(), attempt=2)]
    assert replies == [Started(), Started(), Running()]


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
            assert refused(collect(agent, run=run)) == Reason.TRAINING_FAILED
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


def test_attempts_that_wait_in_vain_hold_no_threads_and_no_adapters(
    ledger: SqliteLedger, trainer: FakeTrainer
) -> None:
    """A coordinator may start any number of attempts within one physical batch."""
    study = make_study(rounds=40)
    agent = make_agent(ledger, trainer, make_rules(study=study))
    release = threading.Event()
    trainer.on_start = lambda: release.wait(10) and None
    start(agent, study, run=1)
    works = []
    for run in range(2, 40):
        assert start(agent, study, run=run) == Started()
        assert agent._attempt is not None
        works.append(agent._attempt.work)
    assert all(work.wait(10) for work in works[:-1])
    assert {len(work._adapter) for work in works[:-1]} == {0}
    assert works[-1].result is None
    assert trainer.calls == 1
    release.set()
    assert isinstance(collect(agent, run=39), Update)
    assert trainer.calls == 2


def test_an_attempt_without_a_thread_fails_and_the_next_one_works(
    agent: SiteAgent, trainer: FakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more_threads(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more_threads)
        start(agent)
    assert refused(collect(agent)) == Reason.TRAINING_FAILED
    assert start(agent, round=2) == Started()
    assert isinstance(collect(agent, round=2), Update)

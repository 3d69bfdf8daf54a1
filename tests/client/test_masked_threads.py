"""Several threads at one masked agent: the service answers calls at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from client.agent.site_agent import SiteAgent
from privacy.ledger import SqliteLedger, State
from privacy.secagg.server import Stage
from privacy.wire.envelope import open_envelope
from privacy.wire.offer import TrainMasked

from .fakes import FakeTrainer
from .masked import MaskedAttempt


def at_once(action: Callable[[], bytes], times: int = 8) -> set[bytes]:
    """The answers of `times` threads that ask in the same instant."""
    ready = threading.Barrier(times)

    def ask(_: int) -> bytes:
        ready.wait(10)
        return action()

    with ThreadPoolExecutor(times) as pool:
        return set(pool.map(ask, range(times)))


@pytest.mark.parametrize(
    "stage", [stage for stage in Stage if stage.value not in ("done", "aborted")]
)
def test_threads_that_ask_at_once_get_one_answer(
    agent: SiteAgent, ledger: SqliteLedger, trainer: FakeTrainer, stage: Stage
) -> None:
    """One attempt, one charge, one masked update."""
    attempt = MaskedAttempt()
    attempt.to(stage, agent)
    if stage is Stage.INPUT:
        assert agent._attempt is not None
        assert agent._attempt.work.wait(10)
        time.sleep(2 * attempt.study.cohort.reply_slot)
    request = attempt.envelope(attempt.request())
    assert len(at_once(lambda: agent.handle(request))) == 1
    attempt.to(Stage.DONE, agent)
    assert [entry.state for entry in ledger.entries()] == [State.COMMITTED]
    assert trainer.calls == 1


def test_of_different_offers_that_come_at_once_one_is_taken(
    agent: SiteAgent, ledger: SqliteLedger
) -> None:
    attempt = MaskedAttempt()
    later = iter(range(8))
    answers = at_once(
        lambda: agent.handle(
            attempt.envelope(
                TrainMasked(
                    replace(attempt.offer, expiry=attempt.offer.expiry + next(later)), attempt.start
                )
            )
        )
    )
    kinds = [type(open_envelope(answer, limit=10_000).body) for answer in answers]
    assert sorted(kind.__name__ for kind in kinds) == ["Advertise", "SecAggRefusal"]
    assert len(ledger.entries()) == 1

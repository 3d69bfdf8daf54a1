from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.agent.site_agent import SiteAgent
from privacy.ledger import SqliteLedger
from tests.privacy.ledger.ledgers import open_test_ledger

from .fakes import FakeTrainer, make_agent
from .masked import make_masked_agent


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with open_test_ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def trainer() -> FakeTrainer:
    return FakeTrainer()


@pytest.fixture
def agent(ledger: SqliteLedger, trainer: FakeTrainer) -> Iterator[SiteAgent]:
    """A plain one; it is stopped at the end of the test."""
    yield from _stopped(make_agent(ledger, trainer), trainer)


@pytest.fixture
def masked_agent(ledger: SqliteLedger, trainer: FakeTrainer) -> Iterator[SiteAgent]:
    yield from _stopped(make_masked_agent(ledger, trainer), trainer)


def _stopped(agent: SiteAgent, trainer: FakeTrainer) -> Iterator[SiteAgent]:
    yield agent
    trainer.gate.set()
    assert agent.stop(10)

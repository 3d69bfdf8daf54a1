from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client.agent.site_agent import SiteAgent
from privacy.ledger import SqliteLedger
from tests.figures import remembered_figures as remembered_figures
from tests.privacy.ledger.ledgers import open_test_ledger

from .fakes import FakeTrainer, make_agent
from .sealed import SealedSites, TinyCoordinator
from .sides import Side


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    with open_test_ledger(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def trainer() -> FakeTrainer:
    return FakeTrainer()


@pytest.fixture
def agent(ledger: SqliteLedger, trainer: FakeTrainer) -> Iterator[SiteAgent]:
    """It is stopped at the end of the test."""
    agent = make_agent(ledger, trainer)
    yield agent
    trainer.gate.set()
    assert agent.stop(10)


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[SealedSites]:
    """The agents of a small pooled study."""
    made = SealedSites(tmp_path)
    yield made
    made.close()


@pytest.fixture
def coordinator(sites: SealedSites) -> TinyCoordinator:
    return TinyCoordinator(sites)


@pytest.fixture
def make(ledger: SqliteLedger) -> Iterator[Callable[..., Side]]:
    made: list[Side] = []

    def side(**given: Any) -> Side:
        made.append(Side(given.pop("ledger", ledger), **given))
        return made[-1]

    yield side
    for each in made:
        each.trainer.gate.set()
        assert each.agent.stop(10)


@pytest.fixture
def side(make: Callable[..., Side]) -> Side:
    return make()

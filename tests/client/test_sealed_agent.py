"""The agent of a pooled study: what it answers to sessions and steps, and what that changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from privacy.ledger import State

from .sealed import P, SealedSites, TinyCoordinator


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[SealedSites]:
    made = SealedSites(tmp_path)
    yield made
    made.close()


@pytest.fixture
def coordinator(sites: SealedSites) -> TinyCoordinator:
    return TinyCoordinator(sites)


def test_a_whole_study_of_three_sites(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    coordinator.open()
    for _ in range(sites.study.rounds):
        coordinator.whole()
    assert coordinator.chain.steps == sites.study.rounds
    assert coordinator.chain.adapter.shape == (P,)
    for site, ledger in sites.ledgers.items():
        entries = ledger.entries()
        assert [entry.state for entry in entries] == [State.COMMITTED] * 3, site
        assert all(entry.mark.cohort == (1, 2, 3) and entry.sent for entry in entries)

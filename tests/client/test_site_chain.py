"""A restarted agent goes on from its own file, and fetches only the sums that it has missed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from privacy.secagg.refusals import Refused
from privacy.wire.bodies import Refusal, Running
from privacy.wire.checks import Check
from privacy.wire.reasons import Reason
from privacy.wire.secagg import SecAggRefusal
from strategies.chain import AdapterChain
from strategies.kept_chain import KeptChain
from strategies.pooled import rule_of
from tests.client.sealed import RUN, SealedSites, TinyCoordinator


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[SealedSites]:
    made = SealedSites(tmp_path, keeps_chains=True)
    yield made
    made.close()


@pytest.fixture
def coordinator(sites: SealedSites) -> TinyCoordinator:
    made = TinyCoordinator(sites)
    made.open()
    made.whole()
    assert not sites.chain_file(1).exists()  # at the start there is nothing to keep
    made.whole()
    return made


def kept(sites: SealedSites, site: int = 1) -> KeptChain:
    data = sites.chain_file(site).read_bytes()
    return KeptChain.decode(data, sites.study.digest(), rule_of(sites.study))


def restarted(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    sites.start(1)
    coordinator.open()


def fetches_all(sites: SealedSites, coordinator: TinyCoordinator) -> None:
    step = coordinator.step()
    assert coordinator.send(step, 1) == Refusal(Reason.MISSING_SUMS, newest_run=0)
    assert coordinator.send(coordinator.with_sums(step, coordinator.sums), 1) == Running()
    assert sites.agents[1]._chain.current.steps == 2
    assert kept(sites).chain.steps == 2  # and the file is whole again


def test_a_restarted_agent_lacks_only_what_came_since(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """It has the adapter of step 2, and step 3 brings the sum of step 2: nothing to ask for."""
    assert (kept(sites).run, kept(sites).chain.steps) == (RUN, 1)
    assert sites.chain_file(1).stat().st_mode & 0o777 == 0o600
    restarted(sites, coordinator)
    step = coordinator.step()
    assert len(step.opened) == 1
    assert coordinator.send(step, 1) == Running()
    mine = sites.agents[1]._chain.current
    assert mine.state_digest == coordinator.chain.state_digest
    assert kept(sites).chain.state_digest == mine.state_digest


def test_a_sum_that_was_only_looked_at_is_not_kept(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    before = sites.chain_file(1).read_bytes()
    refused = coordinator.send(coordinator.step(adapter=bytes(32)), 1)
    assert isinstance(refused, SecAggRefusal)
    assert sites.chain_file(1).read_bytes() == before


@pytest.mark.parametrize("harm", ["cut", "changed", "empty", "folder", "open to others"])
def test_a_file_that_is_not_whole_is_left_aside(
    harm: str,
    sites: SealedSites,
    coordinator: TinyCoordinator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = sites.chain_file(1)
    data = file.read_bytes()
    if harm == "folder":
        file.unlink()
        file.mkdir()
    elif harm == "open to others":
        file.chmod(0o622)
    else:
        changed = bytearray(data)
        changed[150] ^= 1
        file.write_bytes({"cut": data[:-1], "changed": bytes(changed), "empty": b""}[harm])
    restarted(sites, coordinator)
    assert any(str(file) in record.message for record in caplog.records)
    if harm == "folder":
        step = coordinator.with_sums(coordinator.step(), coordinator.sums)
        assert coordinator.send(step, 1) == Running()  # it cannot be written, and nobody minds
        return
    fetches_all(sites, coordinator)


def test_a_file_of_another_run_is_left_aside(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    other = KeptChain(RUN + 1, kept(sites).chain)
    sites.chain_file(1).write_bytes(other.encode())
    restarted(sites, coordinator)
    fetches_all(sites, coordinator)


def test_an_older_copy_of_the_file_costs_a_few_sums(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    older = sites.chain_file(1).read_bytes()
    coordinator.whole()
    sites.chain_file(1).write_bytes(older)
    sites.start(1)
    machine = sites.agents[1]
    machine._chain.take_up(RUN)
    assert machine._chain.current.steps == 1
    chain = machine._chain.before(4, coordinator.sums[1:])
    assert chain.state_digest == coordinator.chain.state_digest


def test_a_file_that_leads_elsewhere_is_given_up_at_the_first_step(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """Whole, of this run, and wrong: the step names other digests, and nothing is journalled."""
    right = kept(sites).chain
    wrong = AdapterChain.of(right.study, right.descent, bytes(32))
    sites.chain_file(1).write_bytes(KeptChain(RUN, wrong).encode())
    restarted(sites, coordinator)
    newest = sites.agents[1]._runs.newest_attempt
    answer = coordinator.send(coordinator.step(), 1)
    assert isinstance(answer, SecAggRefusal)
    assert answer.check is Check.SUMS
    assert sites.agents[1]._runs.newest_attempt == newest
    fetches_all(sites, coordinator)


def test_a_chain_that_a_step_was_begun_with_is_held_on_to(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """Another history by the coordinator does not make a site forget its own."""
    own = sites.agents[1]._chain.current
    answer = coordinator.send(coordinator.step(sums=bytes(32)), 1)
    assert isinstance(answer, SecAggRefusal)
    assert answer.check is Check.SUMS
    assert sites.agents[1]._chain.current is own
    with pytest.raises(Refused):
        sites.agents[1]._chain.before(1, [])
    assert np.isfinite(own.adapter).all()

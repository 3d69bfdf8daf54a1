"""An active coordinator that keeps to the form of every message, and makes the worst choices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from craftsfl.simulation.members import SimulatedMembers
from privacy.study.manifest import Study
from privacy.wire.bodies import Running
from privacy.wire.checks import Check
from privacy.wire.reasons import Reason
from privacy.wire.sealed import OpenedSum
from strategies.pooled import begin_chain

from .fakes import refused
from .sealed import NAMES, SLOT, SealedSites, TinyCoordinator, check_of, sealed_values, state_of


def test_members_of_the_roster_that_are_not_in_the_study(tmp_path: Path) -> None:
    """Strangers to the study would count as sites with a share of the noise."""
    members = SimulatedMembers.seeded(NAMES, consortium="pooled")
    sites = SealedSites(tmp_path, Study.model_validate(sealed_values(members)), members)
    coordinator = TinyCoordinator(sites)
    before = state_of(sites, 1)
    assert check_of(coordinator.ask(1, coordinator.offered((1, 4, 5)))) is Check.COHORT
    assert check_of(coordinator.ask(1, coordinator.offered((1, 2, 3, 4)))) is Check.COHORT
    assert state_of(sites, 1) == before
    sites.close()


def test_another_run_in_between_does_not_make_a_site_forget_how_to_prove_a_sum(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    coordinator.open()
    coordinator.whole()
    other = TinyCoordinator(sites, run=2)
    other.number = coordinator.number
    other.open()
    coordinator.number = other.number
    coordinator.open()
    (found,) = coordinator.sums
    lanes = found.lanes.copy()
    lanes[0] += 1
    forged = replace(found, lanes=lanes)
    honest = coordinator.chain
    _told(coordinator, forged)
    before = state_of(sites, 1)
    assert check_of(coordinator.send(coordinator.step(), 1)) is Check.FALSE_SUM
    assert state_of(sites, 1) == before
    coordinator.sums, coordinator.chain = [found], honest
    coordinator.whole()


def _told(coordinator: TinyCoordinator, forged: OpenedSum) -> None:
    """The coordinator says of its first step that it opened to `forged`."""
    coordinator.sums = []
    coordinator.chain = begin_chain(coordinator.sites.study, coordinator.sites.layout)
    coordinator.take(forged)


@pytest.mark.parametrize("number", [2**32 - 1, 10**6])
def test_a_session_with_a_number_from_the_future_locks_nobody_out(
    number: int, sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    offer = coordinator.offered(session=number)
    before = state_of(sites, 1)
    assert check_of(coordinator.ask(1, offer)) is Check.FAR_SESSION
    assert state_of(sites, 1) == before
    coordinator.open()
    coordinator.whole()


def test_messages_that_are_refused_let_nobody_set_the_clock(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """Neither an offer again nor a false step has the time read while a step is open."""
    coordinator.open()
    step = coordinator.begun(slot=2 * SLOT)
    sites.sleep(SLOT)
    sites.unix.now += SLOT
    assert coordinator.offer is not None
    coordinator.ask(1, coordinator.offer)
    coordinator.ask(1, replace(coordinator.offer, signature=bytes(64)))
    coordinator.send(replace(coordinator.step(2), signature=bytes(64)), 1)
    assert coordinator.send(step, 1) == Running()


def test_after_a_sleep_of_the_machine_a_new_attempt_has_the_right_time(
    sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """The even clock stands still while a machine sleeps; the next attempt reads the other one."""
    coordinator.open()
    coordinator.begun()
    sites.unix.now += 1800
    coordinator.whole(2)


@pytest.mark.parametrize("cohort", [(1, 2), (2, 3), (2, 3, 9), tuple(range(1, 200))])
def test_sums_of_cohorts_that_no_step_of_the_study_has(
    cohort: tuple[int, ...], sites: SealedSites, coordinator: TinyCoordinator
) -> None:
    """A site that cannot prove them, having been restarted, takes none of them, and says so."""
    coordinator.open()
    found = coordinator.whole()
    sites.start(1)
    coordinator.open()
    before = state_of(sites, 1)
    told = coordinator.with_sums(coordinator.step(), [replace(found, cohort=cohort)])
    assert refused(coordinator.send(told, 1)) is Reason.MISSING_SUMS
    assert state_of(sites, 1) == before
    coordinator.whole()

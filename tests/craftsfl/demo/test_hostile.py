"""The eight things that the demo's hostile coordinator tries, on agents that are real."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from craftsfl.demo.hostile import HostileCoordinator, HostileGround, said_by
from craftsfl.demo.hostile_log import HostileLog
from craftsfl.demo.page.facts import AttackTried
from privacy.errors import FederationError
from privacy.wire.bodies import Body, Running
from privacy.wire.checks import Check, explain_check
from privacy.wire.envelope import Envelope, open_envelope, seal
from server.rounds import run_federation
from strategies.pooled import digests_of
from tests.client.sealed import SealedSites, TinyCoordinator, sealed_values
from tests.pooled_study import COORDINATOR
from tests.server.fakes import RUN
from tests.server.sealed import SealedWorld


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[SealedSites]:
    made = SealedSites(tmp_path)
    yield made
    made.close()


def ground_of(sites: SealedSites, run: int, session: int) -> HostileGround:
    tiny = TinyCoordinator(sites)
    return HostileGround(
        coordinator=COORDINATOR,
        roster=tiny.roster,
        study=tiny.sealed,
        sites=sites.sites,
        chain=digests_of(tiny.chain),
        run=run,
        session=session,
    )


def asked(sites: SealedSites, site: int, envelope: Envelope) -> Body:
    answer = sites.agents[site].handle(seal(envelope))
    return open_envelope(answer, limit=sites.agents[site].limit).body


def attacks_on(sites: SealedSites, run: int = 2, session: int = 9) -> tuple[AttackTried, ...]:
    # The agents' clocks are the test's, and the attacker looks at the machine's.
    hostile = HostileCoordinator(
        ground_of(sites, run, session),
        lambda site, envelope: asked(sites, site, envelope),
        clock=sites.unix.time,
    )
    return hostile.attacks()


def test_all_eight_are_refused_and_cost_nothing_after_a_whole_run(sites: SealedSites) -> None:
    honest = TinyCoordinator(sites)
    honest.open()
    for _ in range(sites.study.rounds):
        honest.whole()
    before = [ledger.entries() for ledger in sites.ledgers.values()]
    found = attacks_on(sites)
    assert len(found) == 8
    assert all(attack.refused and not attack.charged for attack in found), found
    assert len({attack.answer for attack in found}) >= 7, found  # each for what it is
    assert before == [ledger.entries() for ledger in sites.ledgers.values()]


def test_what_an_honest_step_would_be_is_not_refused(sites: SealedSites) -> None:
    """The control: the same session, the same hands, nothing forged."""
    hostile = HostileCoordinator(
        ground_of(sites, 1, 1),
        lambda site, envelope: asked(sites, site, envelope),
        clock=sites.unix.time,
    )
    hostile._open()
    tried = hostile._tried("nothing that is not its right", 1, hostile._step)
    assert (tried.refused, tried.answer) == (False, "It took part.")
    assert said_by(Running()) == tried.answer


def test_a_charge_would_show(sites: SealedSites, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the budget can fail."""
    spent = iter([0.0, 1.0])
    monkeypatch.setattr(HostileCoordinator, "_spent", lambda self, site: next(spent, 1.0))
    assert attacks_on(sites, run=1)[0].charged


def test_agents_that_open_no_session_are_named(sites: SealedSites) -> None:
    hostile = HostileCoordinator(
        replace(ground_of(sites, 1, 1), coordinator=sites.members.identities["north"]),
        lambda site, envelope: asked(sites, site, envelope),
        clock=sites.unix.time,
    )
    with pytest.raises(FederationError, match="No session could be opened"):
        hostile.attacks()


@pytest.mark.parametrize("has_log", [True, False])
def test_sites_that_have_cosigned_a_log_refuse_each_thing_for_what_it_is(
    tmp_path: Path, has_log: bool
) -> None:
    """The control: without the log, what is forged within a step is never looked at."""
    world = SealedWorld(tmp_path, sealed_values(), log=True, policy={"log": "required"})
    try:
        run_federation(world.federation())
        sites = world.sites
        keeper = world.simulated().log()
        assert keeper is not None
        hostile = HostileCoordinator(
            ground_of(sites, RUN + 1, world.store().steps.newest_session() + 1),
            lambda site, envelope: asked(sites, site, envelope),
            clock=sites.unix.time,
            log=HostileLog(keeper, COORDINATOR, sites.members.roster) if has_log else None,
        )
        found = hostile.attacks()
    finally:
        world.sites.close()
    assert all(attack.refused and not attack.charged for attack in found), found
    unlogged = explain_check(Check.LOG_MISSING).split(". ")[0].rstrip(".") + "."
    assert any(attack.answer == unlogged for attack in found) is not has_log
    if has_log:
        assert len({attack.answer for attack in found}) >= 7, found

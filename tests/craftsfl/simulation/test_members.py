"""The simulated members, as the real code sees them; tests/server/test_with_agents.py runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from craftsfl.simulation.clock import SteppedClock
from craftsfl.simulation.members import SimulatedMembers, seeded_identity
from privacy.errors import SecAggError
from privacy.identity import load_identity
from privacy.secagg.roster import verify_roster

NAMES = ("north", "south", "east")


def test_everybody_signs_the_roster_and_is_listed_in_it() -> None:
    members = SimulatedMembers.seeded(NAMES)
    assert verify_roster(members.signed, None) == members.roster
    assert len(members.signed.signatures) == len(NAMES)
    assert [(m.site, m.name) for m in members.roster.members] == list(enumerate(NAMES, start=1))
    own = members.membership("south")
    listed = own.roster.member_named("south")
    assert listed is not None and listed.public_key == own.identity.public


def test_the_same_names_make_the_same_consortium() -> None:
    first, second = SimulatedMembers.seeded(NAMES), SimulatedMembers.seeded(NAMES)
    assert first.roster == second.roster
    assert SimulatedMembers.seeded(NAMES, ids=[2, 5, 8]).roster.sites == (2, 5, 8)
    assert seeded_identity("north").public != seeded_identity("south").public


def test_a_quorum_that_nobody_can_reach_is_refused() -> None:
    with pytest.raises(SecAggError):
        SimulatedMembers.seeded(NAMES, quorum=4)


def test_a_written_key_is_one_that_a_site_would_take(tmp_path: Path) -> None:
    SimulatedMembers.seeded(NAMES).write_key("east", tmp_path / "site.key")
    assert load_identity(tmp_path / "site.key").public == seeded_identity("east").public


def test_time_passes_only_by_sleeping() -> None:
    clock = SteppedClock()
    before = clock.time()
    clock.sleep(2.5)
    assert (clock.time(), clock.monotonic()) == (before + 2.5, before + 2.5)

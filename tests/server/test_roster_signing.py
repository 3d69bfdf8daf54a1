"""Sites that have signed a roster bring their signatures, and get everybody's before round 1."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from client.agent.roster_gate import RosterGate
from craftsfl.simulation.members import seeded_identity
from privacy.secagg.chain import AgreedRoster, in_force, read_rosters, write_rosters
from privacy.secagg.roster import SignedRoster, add_signature
from privacy.wire.signing import RosterSignature
from server.roster_signing import RosterSigning
from server.rounds import Federation, run_federation
from server.status_reader import read_status
from tests.server.fakes import WaitsForEver
from tests.server.masked import FOUR, FourSites

MakeWorld = Callable[..., FourSites]
DIGEST = FOUR.roster.digest()


def signed_by(*names: str) -> AgreedRoster:
    signed = SignedRoster(FOUR.roster)
    for name in names:
        signed = add_signature(signed, seeded_identity(name), None)
    return AgreedRoster((signed,))


class Signing:
    """Four sites, some of which have joined; the coordinator has an unsigned roster."""

    def __init__(self, world: FourSites, folder: Path, joined: tuple[str, ...]) -> None:
        self.world, self.folder = world, folder
        self.file = folder / "roster.cfl"
        write_rosters(self.file, signed_by().chain)
        nodes = dict(world.nodes)
        for name, node in nodes.items():
            if name not in joined:
                del world.handlers[node]
                continue
            own = folder / f"{name}.cfl"
            write_rosters(own, signed_by(name).chain)
            agent = world.handlers[node]
            identity = seeded_identity(name)
            gate = RosterGate(world.study.digest(), signed_by(name), identity, own, agent)
            world.handlers[node] = gate.handle

    def federation(self) -> Federation:
        made = self.world.federation()
        signing = RosterSigning(AgreedRoster(read_rosters(self.file)), self.file)
        return replace(made, context=replace(made.context, signing=signing))


def test_signatures_go_up_and_everybody_gets_all_of_them(world: FourSites, tmp_path: Path) -> None:
    joined = ("north", "harbour", "hillside", "lakeside")
    signing = Signing(world, tmp_path, joined)
    run_federation(signing.federation())
    assert {item.updates for item in read_status(world.url).history} == {4}
    for file in (signing.file, *(tmp_path / f"{name}.cfl" for name in joined)):
        assert in_force(read_rosters(file), DIGEST) == FOUR.roster


def test_a_site_that_joins_late_gets_them_too(world: FourSites, tmp_path: Path) -> None:
    signing = Signing(world, tmp_path, ("north", "harbour", "hillside"))
    run_federation(signing.federation())
    assert {item.updates for item in read_status(world.url).history} == {3}
    late = Signing.__new__(Signing)
    late.world, late.file = world, signing.file
    assert not late.federation().context.signing.lacking  # type: ignore[union-attr]


def test_until_enough_have_signed_the_run_waits_and_says_for_whom(
    world: FourSites, tmp_path: Path
) -> None:
    signing = Signing(world, tmp_path, ("north", "harbour"))  # 3 of 4 have to
    world.clock.latest = world.clock.now + 300
    with pytest.raises(WaitsForEver):
        run_federation(signing.federation())
    awaited = read_status(world.url).awaited
    assert "hillside, lakeside: It has not signed the roster yet: there, craftsfl site" in awaited
    assert "north: It waits for others to sign the roster, which lacks 1 more." in awaited
    assert read_status(world.url).history == ()
    assert len(read_rosters(signing.file)[-1].signatures) == 2  # kept for the next ServerApp


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (RosterSignature(bytes(32), seeded_identity("north").public, bytes(64)), "another roster"),
        (RosterSignature(DIGEST, seeded_identity("north").public, bytes(64)), "is bad"),
        (RosterSignature(DIGEST, seeded_identity("stranger").public, bytes(64)), ""),
    ],
)
def test_what_does_not_hold_is_not_kept(tmp_path: Path, given: RosterSignature, says: str) -> None:
    file = tmp_path / "roster.cfl"
    signing = RosterSigning(signed_by("harbour"), file)
    found = signing.take(given)
    assert says in found and bool(found) == bool(says)
    assert signing.lacking == 2 and not file.exists() and signing.signatures() is None


def test_a_disk_that_is_full_ends_no_run(tmp_path: Path) -> None:
    signing = RosterSigning(signed_by("north", "harbour"), tmp_path / "no" / "folder" / "r.cfl")
    identity = seeded_identity("hillside")
    given = RosterSignature(DIGEST, identity.public, identity.sign(DIGEST))
    assert signing.take(given) == "" and signing.signatures() is not None

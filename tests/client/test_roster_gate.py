"""While a site's roster lacks signatures: what passes, what is signed, whose signatures count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from client.agent.roster_gate import RosterGate
from privacy.identity import Identity
from privacy.secagg.chain import AgreedRoster, in_force, read_rosters, write_rosters
from privacy.secagg.roster import Member, Roster, SignedRoster, add_signature, propose_roster
from privacy.wire.bodies import Body, Hello, Refusal, Running, RunOver
from privacy.wire.envelope import Envelope, open_envelope, refuse, seal
from privacy.wire.reasons import Reason
from privacy.wire.signing import SIGNING_BYTES, RosterSignature, RosterSignatures
from tests.privacy.secagg.consortium import identity_of, roster_of

STUDY = bytes([7]) * 32
ROSTER = roster_of([1, 2, 3])
DIGEST = ROSTER.digest()
OWN, SECOND, THIRD, STRANGER = (identity_of(site) for site in (1, 2, 3, 9))


def pair(identity: Identity, digest: bytes = DIGEST) -> tuple[bytes, bytes]:
    return identity.public, identity.sign(digest)


class Desk:
    """A gate in front of an agent that answers Running, and notes what it is asked."""

    def __init__(self, folder: Path, signed: AgreedRoster | None = None, own: Identity = OWN):
        self.file = folder / "roster.cfl"
        self.reached: list[bytes] = []
        first = AgreedRoster((add_signature(SignedRoster(ROSTER), OWN, None),))
        self.roster = signed or first
        write_rosters(self.file, self.roster.chain)
        self.gate = RosterGate(STUDY, self.roster, own, self.file, self._agent)

    def _agent(self, data: bytes) -> bytes:
        self.reached.append(data)
        return seal(Envelope(1, 0, 0, Running()))

    def ask(self, body: Body) -> Body:
        answer = self.gate.handle(seal(Envelope(1, 0, 0, body)))
        envelope = open_envelope(answer, limit=SIGNING_BYTES)
        assert (envelope.run, envelope.round, envelope.attempt) == (1, 0, 0)
        return envelope.body

    @property
    def on_disk(self) -> int:
        return len(read_rosters(self.file)[-1].signatures)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def signatures(*pairs: tuple[bytes, bytes], digest: bytes = DIGEST) -> RosterSignatures:
    return RosterSignatures(digest, tuple(sorted(pairs)))


def test_a_greeting_for_this_roster_is_answered_with_the_own_signature(desk: Desk) -> None:
    assert desk.ask(Hello(STUDY, 5, DIGEST)) == RosterSignature(DIGEST, *pair(OWN))
    assert desk.reached == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (Hello(bytes(32), 5, DIGEST), Reason.WRONG_STUDY),
        (Hello(STUDY, 5, bytes(32)), Reason.WRONG_ROSTER),
        (signatures(pair(SECOND), digest=bytes(32)), Reason.WRONG_ROSTER),
        (RunOver(), Reason.NOT_READY),
    ],
)
def test_all_else_is_refused_and_changes_nothing(desk: Desk, body: Body, reason: Reason) -> None:
    assert desk.ask(body) == Refusal(reason)
    assert desk.reached == [] and desk.on_disk == 1


@pytest.mark.parametrize("data", [b"", b"\xff" * 40, bytes(SIGNING_BYTES + 1)])
def test_what_is_no_message_is_refused(desk: Desk, data: bytes) -> None:
    answer = desk.gate.handle(data)
    assert answer in (refuse(data, Reason.MALFORMED), refuse(data, Reason.TOO_LARGE))
    assert desk.reached == []


@pytest.mark.parametrize(
    "pairs",
    [
        [pair(STRANGER)],  # no member
        [(SECOND.public, OWN.sign(DIGEST))],  # of another key
        [pair(SECOND, bytes(32))],  # of another roster
        [pair(SECOND), pair(STRANGER)],  # one good one does not help
        [pair(SECOND), (OWN.public, bytes(64))],  # nor does one that spoils the own
        [],
    ],
)
def test_one_signature_that_does_not_hold_spoils_all(
    desk: Desk, pairs: list[tuple[bytes, bytes]], caplog: pytest.LogCaptureFixture
) -> None:
    assert desk.ask(signatures(*pairs)) == RosterSignature(DIGEST, *pair(OWN))
    assert ("signatures that do not hold" in caplog.text) == bool(pairs)
    assert desk.ask(RunOver()) == Refusal(Reason.NOT_READY)
    assert desk.on_disk == 1
    assert desk.ask(signatures(pair(THIRD))) == RosterSignature(DIGEST, *pair(OWN))
    assert desk.ask(RunOver()) == Running()


def test_with_its_quorum_the_roster_is_in_force_and_on_disk(desk: Desk) -> None:
    desk.ask(signatures(pair(SECOND)))
    assert in_force(read_rosters(desk.file), DIGEST) == ROSTER
    greeting = seal(Envelope(1, 0, 0, Hello(STUDY, 5, DIGEST)))
    desk.gate.handle(greeting)
    assert desk.reached == [greeting]
    nonsense = b"\xff" * 40  # the agent's own affair now
    desk.gate.handle(nonsense)
    assert desk.reached[-1] == nonsense


def test_a_disk_that_is_full_does_not_keep_the_site_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("privacy.secagg.chain.write_public", full)
    desk.ask(signatures(pair(SECOND)))
    assert desk.ask(RunOver()) == Running()
    assert desk.on_disk == 1  # asked for again at the next start


def full(path: Path, data: bytes) -> None:
    raise OSError(28, "No space left on device")


def test_who_joins_by_a_successor_waits_for_its_predecessors_members(tmp_path: Path) -> None:
    first = SignedRoster(ROSTER)
    for identity in (OWN, SECOND):
        first = add_signature(first, identity, None)
    new = Member(9, "site-9", STRANGER.public, "Hospital 9")
    second = propose_roster([*ROSTER.members, new], 3, predecessor=ROSTER)
    digest = second.roster.digest()
    desk = Desk(tmp_path, AgreedRoster((first, second)), own=STRANGER)
    assert desk.ask(Hello(STUDY, 5, digest)) == RosterSignature(digest, *pair(STRANGER, digest))
    own = pair(STRANGER, digest)  # it is not asked: those who were there decide who joins
    desk.ask(signatures(own, pair(SECOND, digest), pair(THIRD, digest), digest=digest))
    assert desk.ask(RunOver()) == Refusal(Reason.NOT_READY)
    desk.ask(signatures(pair(SECOND, digest), pair(THIRD, digest), digest=digest))
    assert desk.ask(RunOver()) == Running()
    assert in_force(read_rosters(desk.file), digest) == second.roster


def test_two_rosters_of_one_consortium_never_share_signatures(tmp_path: Path) -> None:
    """A coordinator that gave two sites two rosters: neither takes the other's signature."""
    other = replace(
        ROSTER,
        members=(*ROSTER.members[:2], replace(ROSTER.members[2], public_key=STRANGER.public)),
    )
    assert isinstance(other, Roster)
    desk = Desk(tmp_path)
    assert desk.ask(Hello(STUDY, 5, other.digest())) == Refusal(Reason.WRONG_ROSTER)
    desk.ask(signatures(pair(SECOND, other.digest())))
    assert desk.ask(RunOver()) == Refusal(Reason.NOT_READY)

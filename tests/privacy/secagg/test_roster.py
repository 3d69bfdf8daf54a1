from dataclasses import replace

import pytest

from privacy.errors import CraftsflError, SecAggError
from privacy.identity import Identity
from privacy.secagg.roster import (
    Member,
    Roster,
    SignedRoster,
    add_signature,
    merge_signatures,
    propose_roster,
    verify_roster,
)
from tests.privacy.secagg.consortium import identity_of, roster_of

SITES = (1, 2, 3, 4, 5)


def member(site: int, **changes) -> Member:
    made = Member(site, f"site-{site}", identity_of(site).public, f"Hospital {site}")
    return replace(made, **changes)


def members(*sites: int) -> list[Member]:
    return [member(site) for site in sites]


def signed_by(signed: SignedRoster, sites, predecessor=None) -> SignedRoster:
    for site in sites:
        signed = add_signature(signed, identity_of(site), predecessor)
    return signed


def follow(pinned: Roster, chain) -> Roster:
    for signed in chain:
        pinned = verify_roster(signed, pinned)
    return pinned


@pytest.fixture
def first() -> Roster:
    return roster_of(SITES)


@pytest.fixture
def successor(first) -> SignedRoster:
    return propose_roster(members(1, 2, 3, 4, 9), 3, predecessor=first)


def test_known_bytes():
    key = bytes([0xAB]) * 32
    roster = propose_roster([Member(258, "n-1", key, "Nörd")], 1, consortium="c").roster
    fields = [
        ("format", "0001"),
        ("consortium: length", "0001"),
        ("consortium", "63"),
        ("sequence", "00000001"),
        ("quorum", "0001"),
        ("predecessor", "00" * 32),
        ("members", "0001"),
        ("site", "0102"),
        ("name: length", "0003"),
        ("name", "6e2d31"),
        ("public key", "ab" * 32),
        ("organisation: length", "0005"),
        ("organisation", "4ec3b67264"),
    ]
    assert roster.encode().hex() == "".join(value for _, value in fields)
    assert SignedRoster.decode(roster.encode() + b"\0\0") == SignedRoster(roster)


def test_a_first_roster_needs_its_quorum(first):
    signed = propose_roster(first.members, 3, consortium="test-consortium")
    with pytest.raises(SecAggError, match="2 of 3"):
        verify_roster(signed_by(signed, (5, 1)), None)
    assert verify_roster(signed_by(signed, (5, 1, 2)), None) == first


def test_the_members_come_by_id_whatever_the_order(first):
    turned = propose_roster(reversed(first.members), 3, consortium="test-consortium")
    assert turned.roster.digest() == first.digest()


def test_a_successor_is_signed_by_those_who_were_there(first, successor):
    signed = signed_by(successor, (1, 2, 5), first)
    assert follow(first, [signed]).sites == (1, 2, 3, 4, 9)


def test_who_joins_does_not_sign(first, successor):
    with pytest.raises(SecAggError, match="not among those"):
        add_signature(successor, identity_of(9), first)
    forged = add_signature(successor, identity_of(9), None)
    with pytest.raises(SecAggError, match="not asked for"):
        verify_roster(signed_by(forged, (1, 2, 3), first), first)


def test_a_successor_without_quorum_is_refused(first, successor):
    with pytest.raises(SecAggError, match="2 of 3"):
        follow(first, [signed_by(successor, (1, 2), first)])


def test_a_successor_needs_the_chain_from_the_pinned_roster(first, successor):
    signed = signed_by(successor, (1, 2, 3), first)
    with pytest.raises(SecAggError, match="chain"):
        verify_roster(signed, None)
    second = follow(first, [signed])
    third = signed_by(propose_roster(members(1, 2, 3, 4), 3, predecessor=second), (1, 2, 9), second)
    assert follow(first, [signed, third]).sequence == 3
    with pytest.raises(SecAggError, match="predecessor"):
        follow(first, [third])
    with pytest.raises(SecAggError, match="predecessor"):
        follow(second, [signed])


@pytest.mark.parametrize("change", [{"sequence": 3}, {"consortium": "another"}])
def test_a_successor_continues_its_predecessor(first, successor, change):
    changed = SignedRoster(replace(successor.roster, **change))
    with pytest.raises(SecAggError, match="continue"):
        verify_roster(signed_by(changed, (1, 2, 3), first), first)


def test_a_bad_signature_is_refused_not_skipped(first):
    signed = signed_by(propose_roster(first.members, 3, consortium="test-consortium"), (1, 2, 3, 4))
    (key, signature), *rest = signed.signatures
    changed = bytes([signature[0] ^ 1]) + signature[1:]
    with pytest.raises(SecAggError, match="bad"):
        verify_roster(replace(signed, signatures=((key, changed), *rest)), None)


def test_signatures_are_of_one_roster_only(first):
    signed = signed_by(propose_roster(first.members, 3, consortium="test-consortium"), (1, 2, 3))
    moved = replace(signed, roster=replace(first, consortium="another"))
    with pytest.raises(SecAggError, match="bad"):
        verify_roster(moved, None)


def test_a_site_signs_once(first):
    signed = propose_roster(first.members, 3, consortium="test-consortium")
    twice = signed_by(signed, (1, 1))
    assert len(twice.signatures) == 1
    (entry,) = twice.signatures
    data = replace(signed, signatures=(entry, entry)).encode()
    with pytest.raises(SecAggError, match="repeated"):
        SignedRoster.decode(data)


def test_signatures_from_two_places_are_merged(first):
    signed = propose_roster(first.members, 3, consortium="test-consortium")
    both = merge_signatures(signed_by(signed, (1, 3)), signed_by(signed, (2, 3)))
    assert verify_roster(both, None) == first
    with pytest.raises(SecAggError, match="different"):
        merge_signatures(both, SignedRoster(replace(first, consortium="another")))


def test_it_travels_as_bytes(first):
    signed = signed_by(propose_roster(first.members, 3, consortium="test-consortium"), (1, 2))
    data = signed.encode()
    assert SignedRoster.decode(data) == signed
    for length in range(len(data)):
        with pytest.raises(CraftsflError):
            SignedRoster.decode(data[:length])
    with pytest.raises(CraftsflError):
        SignedRoster.decode(data + b"\0")
    with pytest.raises(SecAggError, match="format"):
        SignedRoster.decode(b"\0\2" + data[2:])


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [member(1), member(2, name="site-1")],
        [member(1), member(2, public_key=identity_of(1).public)],
        [member(1), member(1, name="other", public_key=identity_of(2).public)],
        [member(0)],
        [replace(member(1), site=65536)],
        [member(1, name="Site")],
        [member(1, public_key=bytes(31))],
        [member(1, organisation=" ")],
        [member(1, organisation="a\nb")],
    ],
    ids=str,
)
def test_members_that_cannot_be_told_apart_or_shown_are_refused(wrong):
    with pytest.raises(SecAggError):
        propose_roster(wrong, len(wrong) // 2 + 1, consortium="c")


@pytest.mark.parametrize(("count", "quorum"), [(5, 2), (5, 6), (4, 2), (1, 0)])
def test_a_quorum_is_more_than_half(count, quorum):
    with pytest.raises(SecAggError, match="more than half"):
        propose_roster(members(*range(1, count + 1)), quorum, consortium="c")


@pytest.mark.parametrize(
    "change", [{"sequence": 0}, {"sequence": 2}, {"predecessor": b"\1" * 32}, {"predecessor": b""}]
)
def test_only_the_first_roster_has_no_predecessor(first, change):
    with pytest.raises(SecAggError):
        replace(first, **change)


def test_it_finds_its_members(first):
    assert first.member(3) == member(3)
    assert first.member(9) is None
    assert first.member_named("site-3") == member(3)
    assert first.member_named("nobody") is None
    assert first.site_of(identity_of(4).public) == 4
    assert first.site_of(Identity.generate().public) is None


def test_its_fingerprint_follows_every_field(first):
    others = [
        replace(first, consortium="another"),
        replace(first, quorum=4),
        replace(first, members=first.members[:-1]),
        replace(first, members=(member(1, organisation="Other"), *first.members[1:])),
    ]
    prints = {roster.fingerprint() for roster in [first, *others]}
    assert len(prints) == 5

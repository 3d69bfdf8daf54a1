"""Ids and keys over whole chains of rosters: nobody comes back as somebody else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from privacy.errors import SecAggError
from privacy.secagg.chain import in_force
from privacy.secagg.history import ids_given
from privacy.secagg.roster import Member, Roster, SignedRoster, add_signature, propose_roster

from .consortium import identity_of

SIGNERS = (1, 2)


def member(site: int, name: str = "", key: int = 0) -> Member:
    """Site `site`, called `name`, with the key of the test identity `key`; both follow the id."""
    return Member(site, name or f"site-{site}", identity_of(key or site).public, "A hospital")


def chain_of(*rosters: Sequence[Member]) -> list[SignedRoster]:
    """Rosters that follow each other, each signed by the two members that are in all of them."""
    chain: list[SignedRoster] = []
    before: Roster | None = None
    for members in rosters:
        all_ = [member(1), member(2), *members]
        signed = propose_roster(all_, len(all_) // 2 + 1, consortium="test", predecessor=before)
        for site in SIGNERS:
            signed = add_signature(signed, identity_of(site), before)
        chain.append(signed)
        before = signed.roster
    return chain


def accepted(chain: list[SignedRoster]) -> Roster:
    return in_force(chain, chain[0].roster.digest())


REUSED: dict[str, tuple[list[list[Member]], str]] = {
    "an id, at once": ([[member(3)], [member(3, "other", 9)]], "the id 3 of site-3 to other"),
    "an id, much later": (
        [[member(3)], [], [], [member(3, "other", 9)]],
        "the id 3 of site-3 to other",
    ),
    "a name under another id": ([[member(3)], [], [member(4, "site-3", 9)]], "name site-3 of id 3"),
    "a key, at once": ([[member(3)], [member(4, key=3)]], "the key of site-3 to site-4"),
    "a key, much later": ([[member(3)], [], [], [member(4, key=3)]], "the key of site-3 to site-4"),
    "a key that was replaced, by another": (
        [[member(3)], [member(3, key=9)], [], [member(4, key=3)]],
        "the key of site-3 to site-4",
    ),
    "a key that was replaced, by the same": (
        [[member(3)], [member(3, key=9)], [member(3)]],
        "a key that site-3 has given up",
    ),
    "a key that was replaced while away": (
        [[member(3)], [], [member(3, key=9)], [], [member(3)]],
        "a key that site-3 has given up",
    ),
}


@pytest.mark.parametrize("name", REUSED)
def test_a_roster_id_or_key_that_is_reused_is_refused(name: str) -> None:
    rosters, words = REUSED[name]
    assert accepted(chain_of(*rosters[:-1]))
    with pytest.raises(SecAggError, match=words):
        accepted(chain_of(*rosters))


def test_who_leaves_may_come_back_as_itself() -> None:
    chain = chain_of([member(3)], [], [member(4)], [member(3), member(4, key=9)])
    assert accepted(chain).sites == (1, 2, 3, 4)


def test_every_name_keeps_its_id() -> None:
    rosters = [signed.roster for signed in chain_of([member(3)], [member(7)])]
    assert ids_given(rosters) == {"site-1": 1, "site-2": 2, "site-3": 3, "site-7": 7}

"""`craftsfl rounds roster`: a roster made offline, from small files that people send each other.

    propose   sites' cards        -> a file with an unsigned roster (after its predecessors)
    sign      that file           -> the same with one more signature; two such files can be merged
    show      any of these files  -> who is in it, who has signed, and the fingerprints

Nothing here needs the coordinator, and whoever carries the files need not be trusted: what counts
is that people compare the fingerprint by phone before they sign.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from craftsfl.passphrase import identity_in
from craftsfl.terminal import output
from privacy.errors import ConfigError, SecAggError
from privacy.identity import fingerprint
from privacy.secagg.card import SiteCard, read_card
from privacy.secagg.chain import in_force, read_rosters, write_rosters
from privacy.secagg.history import check_history, ids_given
from privacy.secagg.offer import SMALLEST_COHORT
from privacy.secagg.roster import (
    Member,
    Roster,
    SignedRoster,
    add_signature,
    merge_signatures,
    propose_roster,
)
from privacy.visible import marked


@dataclass(frozen=True)
class Proposal:
    """What was asked for on the command line. `quorum` None: more than half."""

    cards: Sequence[Path]
    consortium: str = ""
    quorum: int | None = None
    after: Path | None = None
    without: Sequence[str] = field(default_factory=tuple)


def write_proposal(out: Path, proposal: Proposal) -> None:
    """Write an unsigned roster, after its predecessors if it has any, and show it."""
    if out.exists() and out != proposal.after:
        raise ConfigError(
            f"{out} exists already.", "Choose another file: rosters are never overwritten."
        )
    cards = [read_card(path) for path in proposal.cards]
    if proposal.after is None:
        write_rosters(out, [_first(proposal, cards)])
    else:
        chain = read_rosters(proposal.after)
        _newest(chain)
        rosters = [one.roster for one in chain]
        successor = successor_of(cards, proposal.without, rosters, proposal.quorum or 0)
        write_rosters(out, [*chain, successor])
    show_roster(out)


def sign_roster(file: Path, key: Path, others: Sequence[Path]) -> None:
    """Add this site's signature, and those of `others`, to the last roster of `file`."""
    chain = read_rosters(file)
    check_history(one.roster for one in chain)
    last = reduce(merge_signatures, [read_rosters(other)[-1] for other in others], chain[-1])
    before = _newest(chain[:-1]) if len(chain) > 1 else None
    output().print(
        f"You are signing roster {last.roster.sequence} of {last.roster.consortium}. Everybody "
        f"must see the same fingerprint:\n[bold]{last.roster.fingerprint()}[/]",
        highlight=False,
    )
    write_rosters(file, [*chain[:-1], add_signature(last, identity_in(key), before)])
    show_roster(file)


def show_roster(file: Path, *, as_json: bool = False) -> None:
    """Print the newest roster of `file`, its signatures and its fingerprint.

    Letters outside ASCII are marked with their code points, since others have chosen the names.
    """
    chain = read_rosters(file)
    signed, state = chain[-1], _state(chain)
    if as_json:
        print(json.dumps(_facts(chain, state)))  # noqa: T201 - the output
        return
    console = output()
    roster = signed.roster
    console.print(f"[bold]{roster.consortium}[/], roster {roster.sequence}: {state}")
    console.print(_members(signed))
    signers = [_signer(chain, key) for key, _ in signed.signatures]
    console.print(f"Signed by: {', '.join(signers) or 'nobody yet'}.", highlight=False)
    console.print(f"Fingerprint, for the phone: [bold]{roster.fingerprint()}[/]", highlight=False)
    console.print(
        f'For study.toml: roster = "{roster.digest().hex()}"', highlight=False, soft_wrap=True
    )


def _first(proposal: Proposal, cards: Sequence[SiteCard]) -> SignedRoster:
    if not proposal.consortium or proposal.without:
        raise ConfigError(
            "A first roster needs the consortium's name, and nobody can leave it yet.",
            "Give --consortium NAME, or --after FILE for a successor.",
        )
    if len(cards) < SMALLEST_COHORT:
        raise ConfigError(
            f"A roster of {len(cards)}: no study can have a sum of fewer than {SMALLEST_COHORT} "
            "hospitals, which would show each what the other sent.",
            "Give the cards of all hospitals, three at least.",
        )
    members = [member_of(site, card) for site, card in enumerate(cards, start=1)]
    quorum = proposal.quorum or len(members) // 2 + 1
    return propose_roster(members, quorum, consortium=proposal.consortium)


def successor_of(
    cards: Sequence[SiteCard], without: Sequence[str], rosters: Sequence[Roster], quorum: int = 0
) -> SignedRoster:
    """Names keep their ids, with a new key if a card has one; so do members who come back.

    Ids are never reused, not even those of members who left long ago. `quorum` 0: more than half.
    """
    before, given = rosters[-1], ids_given(rosters)
    members = {member.name: member for member in before.members}
    strangers = [name for name in without if name not in members]
    if strangers:
        raise ConfigError(
            f"The roster does not list {strangers[0]}.",
            "See who is in it: craftsfl rounds roster show FILE",
        )
    for card in cards:
        site = given.setdefault(card.name, max(given.values()) + 1)
        members[card.name] = member_of(site, card)
    kept = [member for name, member in members.items() if name not in without]
    signed = propose_roster(kept, quorum or len(kept) // 2 + 1, predecessor=before)
    check_history([*rosters, signed.roster])
    return signed


def member_of(site: int, card: SiteCard) -> Member:
    """The member with this id, as its card says."""
    return Member(site, card.name, card.key, card.organisation)


def _newest(chain: Sequence[SignedRoster]) -> Roster:
    """The last roster of a chain; raises `SecAggError` unless all signatures are there."""
    return in_force(chain, chain[-1].roster.digest())


def _state(chain: Sequence[SignedRoster]) -> str:
    signed = chain[-1]
    voters = chain[-2].roster if len(chain) > 1 else signed.roster
    try:
        _newest(chain)
    except SecAggError as error:
        if len(signed.signatures) < voters.quorum:
            return f"{len(signed.signatures)} of {voters.quorum} signatures"
        return error.message
    return "in force"


def _signer(chain: Sequence[SignedRoster], key: bytes) -> str:
    for signed in reversed(chain):
        site = signed.roster.site_of(key)
        member = None if site is None else signed.roster.member(site)
        if member is not None:
            return member.name
    return fingerprint(key)


def _members(signed: SignedRoster) -> Table:
    table = Table("id", "name", "organisation", "key's fingerprint")
    for member in signed.roster.members:
        key = fingerprint(member.public_key)
        table.add_row(str(member.site), member.name, escape(marked(member.organisation)), key)
    return table


def _facts(chain: Sequence[SignedRoster], state: str) -> dict[str, object]:
    signed, roster = chain[-1], chain[-1].roster
    return {
        "consortium": roster.consortium,
        "sequence": roster.sequence,
        "state": state,
        "quorum": (chain[-2] if len(chain) > 1 else signed).roster.quorum,
        "digest": roster.digest().hex(),
        "fingerprint": roster.fingerprint(),
        "signed": [_signer(chain, key) for key, _ in signed.signatures],
        "members": [
            {
                "id": member.site,
                "name": member.name,
                "organisation": member.organisation,
                "fingerprint": fingerprint(member.public_key),
            }
            for member in roster.members
        ],
    }

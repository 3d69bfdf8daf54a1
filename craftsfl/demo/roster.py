"""The demo's consortium: an identity for each hospital, and a roster that all of them sign.

Real hospitals do the same with `craftsfl site init` and `craftsfl rounds roster`, each on its own
machine, and compare the fingerprints by phone. Here one process plays all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from client.site_init import SiteKeys, init_site
from craftsfl.processes.flower.credentials import make_supernode_key
from privacy.identity import load_identity
from privacy.secagg.card import read_card
from privacy.secagg.chain import write_rosters
from privacy.secagg.roster import Member, SignedRoster, add_signature, propose_roster

_CONSORTIUM: Final = "demo"
ROSTER: Final = "roster.cfl"


def make_hospitals(folders: Mapping[str, Path]) -> dict[str, SiteKeys]:
    """Make each hospital's keys in its own folder; by name."""
    return {name: init_site(folder, name, make_supernode_key) for name, folder in folders.items()}


def make_roster(keys: Mapping[str, SiteKeys]) -> SignedRoster:
    """The first roster of these hospitals, signed by each of them."""
    cards = [read_card(own.card) for own in keys.values()]
    members = [
        Member(site, card.name, card.key, card.organisation)
        for site, card in enumerate(cards, start=1)
    ]
    signed = propose_roster(members, len(members) // 2 + 1, consortium=_CONSORTIUM)
    for own in keys.values():
        signed = add_signature(signed, load_identity(own.identity), None)
    return signed


def hand_out(signed: SignedRoster, folders: list[Path]) -> None:
    """Write a copy of the roster file into every folder."""
    for folder in folders:
        write_rosters(folder / ROSTER, [signed])

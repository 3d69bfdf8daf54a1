"""A person accepts another ledger of a site, which it began in place of a lost one."""

from __future__ import annotations

import re

from privacy.errors import ConfigError
from privacy.secagg.roster import Roster
from privacy.secagg.witness import Witness, accepted


def accept_successor(witness: Witness, roster: Roster, site: str, ledger: str) -> str:
    """From now on `witness` accepts the ledger with this id, 32 hex digits, from the site `site`.

    Returns what was done, in words. Raises `ConfigError` for a site that `roster` does not list
    and for an id that is not one, and whatever the witness raises.
    """
    member = roster.member_named(site)
    if member is None:
        raise ConfigError(
            f"The roster of {roster.consortium} does not list {site}.",
            "See who is in it: craftsfl rounds roster show FILE",
        )
    if re.fullmatch(r"[0-9a-f]{32}", ledger) is None:
        raise ConfigError(
            f"{ledger!r} is not a ledger's id.", "It has 32 hex digits; the site reads them out."
        )
    known = witness.known().get(member.public_key)
    if known is not None and known.ledger.hex() == ledger:
        return f"The ledger of {site} is known: {known}. Nothing was changed."
    witness.keep({member.public_key: accepted(bytes.fromhex(ledger))})
    before = "none" if known is None else str(known)
    return f"From now on the ledger of {site} is {ledger}. Before: {before}."

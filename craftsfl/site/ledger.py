"""What a person types about a ledger: `craftsfl site migrate-ledger`, `recover-ledger`,
`accept-ledger`, and `craftsfl rounds accept-ledger`.
"""

from __future__ import annotations

import re
from pathlib import Path

from client.agent.budget import lifetime_epsilon
from client.agent.ledger_verbs import migrate_ledger, recover_ledger
from client.agent.state import StateFolder
from client.agent.witness import WitnessFile
from client.settings import load_policy, load_site
from craftsfl.privacy_words import epsilon_text
from privacy.errors import ConfigError
from privacy.secagg.roster import Roster
from privacy.secagg.witness import Witness, accepted
from privacy.study.agreement import roster_in_force
from privacy.study.manifest import load_study
from server.clock import SystemClock
from server.settings import load_consortium
from server.store import Store
from server.witness import StoredWitness


def migrate(site_toml: Path, *, first: bool) -> str:
    """Bind the site's ledger to its identity; what was done, in words."""
    done = migrate_ledger(load_site(site_toml), first=first)
    if done.head is None:
        return "This identity is marked to have no ledger yet; the first start makes one."
    kept = f" The file as it was: {done.backup}." if done.backup else " It was bound already."
    return f"The ledger is bound to this site's identity; its head is {done.head}.{kept}"


def recover(site_toml: Path) -> str:
    """Begin a ledger in the place of the lost one; what was done, in words."""
    settings = load_site(site_toml)
    done = recover_ledger(settings)
    spent = lifetime_epsilon(load_policy(settings.policy), done.inherited)
    return (
        f"A new ledger counts {len(done.inherited)} charges of the lost one, epsilon "
        f"{epsilon_text(spent)}, as spent.\nIts id, to be read out on the phone to the operator "
        f"and to every other site, who refuse this one until they have accepted it:\n\n"
        f"    {done.head.ledger.hex()}"
    )


def accept_at_site(site_toml: Path, site: str, ledger: str) -> str:
    """Let this site take the other ledger of the site called `site` from now on."""
    settings = load_site(site_toml)
    if settings.identity is None:
        raise ConfigError("site.toml has no [identity] table.", "Name key and roster there.")
    roster = roster_in_force(load_study(settings.study), settings.identity.roster)
    return _accept(WitnessFile(StateFolder(settings.agent.state).witness), roster, site, ledger)


def accept_at_server(consortium_toml: Path, site: str, ledger: str) -> str:
    """Let the coordinator take the other ledger of the site called `site` from now on."""
    settings = load_consortium(consortium_toml)
    if settings.roster is None:
        raise ConfigError("consortium.toml names no roster.", "Plain studies have no witnesses.")
    roster = roster_in_force(load_study(settings.study), settings.roster)
    store = Store(settings.database_url(), 0, SystemClock())
    try:
        return _accept(StoredWitness(store), roster, site, ledger)
    finally:
        store.close()


def _accept(witness: Witness, roster: Roster, site: str, ledger: str) -> str:
    member = roster.member_named(site)
    if member is None:
        raise ConfigError(f"The roster of {roster.consortium} does not list {site}.", "Check it.")
    if re.fullmatch(r"[0-9a-f]{32}", ledger) is None:
        raise ConfigError(
            f"{ledger!r} is no ledger's id.", "It has 32 hex digits; the site reads them out."
        )
    known = witness.known().get(member.public_key)
    if known is not None and known.ledger.hex() == ledger:
        return f"The ledger of {site} is known: {known}. Nothing was changed."
    witness.keep({member.public_key: accepted(bytes.fromhex(ledger))})
    before = "none" if known is None else str(known)
    return f"From now on the ledger of {site} is {ledger}. Before: {before}."

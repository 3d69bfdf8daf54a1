"""What `craftsfl site migrate-ledger` and `recover-ledger` answer."""

from __future__ import annotations

from pathlib import Path

from client.agent.ledger_verbs import SeenByOthers, migrate_ledger, recover_ledger
from client.agent.startup import load_rules
from client.agent.state import StateFolder
from client.policy import limits_of
from client.settings import load_policy, load_site
from craftsfl.privacy_words import epsilon_text
from privacy.budget import Book
from privacy.ledger import charged, read_ledger


def migration_report(site_toml: Path, *, first: bool) -> str:
    """Bind the site's ledger to its identity; what was done, in words."""
    done = migrate_ledger(load_site(site_toml), first=first)
    if done.head is None:
        return "This identity is marked as having no ledger yet; the first start makes one."
    kept = f" The file as it was: {done.backup}." if done.backup else " It was already bound."
    return f"The ledger is bound to this site's identity; its head is {done.head}.{kept}"


def recovery_report(site_toml: Path, seen: int | None = None) -> str:
    """Begin a ledger in the place of the lost one; what was done, in words.

    `seen`: how many records of it others have seen.
    """
    settings = load_site(site_toml)
    done = recover_ledger(settings, None if seen is None else _seen_by_others(site_toml, seen))
    spent = Book(done.inherited).lifetime_epsilon(limits_of(load_policy(settings.policy)))
    return (
        f"A new ledger counts {len(done.inherited)} charges of the lost one, epsilon "
        f"{epsilon_text(spent)}, as spent.\nIts id, to be read out over the phone to the operator "
        f"and to every other site, who refuse this one until they have accepted it:\n\n"
        f"    {done.head.ledger.hex()}{'' if seen is None else _to_be_confirmed(seen)}"
    )


def _to_be_confirmed(seen: int) -> str:
    """The number was the coordinator's word: a smaller one would hide what was charged."""
    return (
        f"\n\nAsk each of them how many records of the old one it had seen (site accept-ledger "
        f"prints it). If one says more than {seen}, type this again with the largest number, "
        "before you serve."
    )


def _seen_by_others(site_toml: Path, records: int) -> SeenByOthers:
    """With the dearest charge that is known: of the study at hand, or of one before it."""
    site = load_rules(site_toml)
    limits = limits_of(site.rules.policy)
    view = read_ledger(StateFolder(site.settings.agent.state).ledger)
    known = {site.rules.charges.charge, *charged(view.entries())}
    return SeenByOthers(
        records, max(known, key=lambda each: Book((each,)).lifetime_epsilon(limits))
    )

"""What `craftsfl site migrate-ledger` and `recover-ledger` answer."""

from __future__ import annotations

from pathlib import Path

from client.agent.ledger_verbs import migrate_ledger, recover_ledger
from client.policy import limits_of
from client.settings import load_policy, load_site
from craftsfl.privacy_words import epsilon_text
from privacy.budget import Book


def migration_report(site_toml: Path, *, first: bool) -> str:
    """Bind the site's ledger to its identity; what was done, in words."""
    done = migrate_ledger(load_site(site_toml), first=first)
    if done.head is None:
        return "This identity is marked as having no ledger yet; the first start makes one."
    kept = f" The file as it was: {done.backup}." if done.backup else " It was already bound."
    return f"The ledger is bound to this site's identity; its head is {done.head}.{kept}"


def recovery_report(site_toml: Path) -> str:
    """Begin a ledger in the place of the lost one; what was done, in words."""
    settings = load_site(site_toml)
    done = recover_ledger(settings)
    spent = Book(done.inherited).lifetime_epsilon(limits_of(load_policy(settings.policy)))
    return (
        f"A new ledger counts {len(done.inherited)} charges of the lost one, epsilon "
        f"{epsilon_text(spent)}, as spent.\nIts id, to be read out over the phone to the operator "
        f"and to every other site, who refuse this one until they have accepted it:\n\n"
        f"    {done.head.ledger.hex()}"
    )

"""Each site's ledger is whole, its site's own, and not older than what others have seen of it."""

from __future__ import annotations

from collections.abc import Iterator

from privacy.audit.checks.membership import identity_of_site, rosters_of
from privacy.audit.evidence import Evidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.audit.ledgers import holds
from privacy.errors import LogError
from privacy.log.lines import check_identities


def check_ledgers(evidence: Evidence) -> Iterator[AuditFailure]:
    """All of it; what could not be read at all was said when the bundle was."""
    names = [site.name for site in evidence.study.sites]
    for name in names:
        if name not in evidence.ledgers:
            yield failure(Flaw.LEDGER_MISSING, "There is no ledger of this site to read.", name)
            continue
        yield from _owner(evidence, name)
        yield from _statement(evidence, name)
    for name in sorted((evidence.ledgers.keys() | evidence.statements.keys()) - set(names)):
        yield failure(Flaw.LEDGER_IDENTITY, "A ledger of no site of the study.", name)
    yield from _same_ledgers(evidence)
    yield from _seen(evidence)


def _owner(evidence: Evidence, name: str) -> Iterator[AuditFailure]:
    chain, identity = evidence.ledgers[name], identity_of_site(evidence, name)
    if chain.genesis.site != name:
        words = f"It is the ledger of {chain.genesis.site}."
        yield failure(Flaw.LEDGER_IDENTITY, words, name)
    if chain.bound is None:
        words = "The ledger is bound to no identity: anyone could have made it."
        yield failure(Flaw.LEDGER_IDENTITY, words, name)
        return
    if chain.bound.identity != identity:
        words = "The ledger is bound to another identity than the roster lists for the site."
        yield failure(Flaw.LEDGER_IDENTITY, words, name)
        return
    try:
        check_identities(name, chain.bindings, rosters_of(evidence))
    except LogError as error:
        yield failure(Flaw.LEDGER_IDENTITY, error.message, name)


def _statement(evidence: Evidence, name: str) -> Iterator[AuditFailure]:
    signed, chain = evidence.statements.get(name), evidence.ledgers[name]
    if signed is None:
        yield failure(Flaw.STATEMENT, "The site has said nothing of its budget.", name)
        return
    identity, said = identity_of_site(evidence, name), signed.statement
    if identity is None or not signed.is_signed_by(identity):
        yield failure(Flaw.STATEMENT, "It is not signed by the site's identity.", name)
    if said.site != name or said.study != evidence.study.digest():
        yield failure(Flaw.STATEMENT, "It is another site's or another study's.", name)
    if said.head != chain.head.to_bytes():
        words = "The ledger does not end where the site has signed that it ends."
        yield failure(Flaw.LEDGER_OLDER, words, name)


def _same_ledgers(evidence: Evidence) -> Iterator[AuditFailure]:
    owners: dict[bytes, str] = {}
    for name, chain in sorted(evidence.ledgers.items()):
        other = owners.setdefault(chain.ledger, name)
        if other != name:
            yield failure(Flaw.LEDGER_IDENTITY, f"It is the same ledger as that of {other}.", name)


def _seen(evidence: Evidence) -> Iterator[AuditFailure]:
    """What each site showed the others at the start of a session is still in its ledger."""
    rosters = {roster.digest(): roster for roster in rosters_of(evidence)}
    for number, run in evidence.runs.items():
        for session in run.sessions:
            roster = rosters.get(session.offer.roster_digest)
            for entry in session.keys.entries:
                member = None if roster is None else roster.member(entry.site)
                chain = None if member is None else evidence.ledgers.get(member.name)
                if member is not None and chain is not None and not holds(chain, entry.ledger):
                    words = (
                        f"In session {session.offer.session} the others saw {entry.ledger}, which "
                        "the ledger does not hold."
                    )
                    yield failure(Flaw.LEDGER_OLDER, words, member.name, number)

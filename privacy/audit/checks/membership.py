"""Who takes part, and in what: the manifest, and the rosters from the first to the newest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from privacy.audit.evidence import Evidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.errors import CraftsflError
from privacy.secagg.chain import in_force, roster_with
from privacy.secagg.roster import Roster
from privacy.study.agreement import check_membership


@dataclass(frozen=True, slots=True)
class KnownDigests:
    """What the auditor knows from elsewhere: hex digests, and a fingerprint's twelve digits less
    nothing. None: taken from the bundle, and shown, to be compared by phone.
    """

    study: str | None = None
    roster: str | None = None


def check_membership_of(evidence: Evidence, expected: KnownDigests) -> Iterator[AuditFailure]:
    """The index, the manifest and the rosters agree, and are those that the auditor expects."""
    study, index = evidence.study, evidence.index
    digest = study.digest().hex()
    if index.study != digest:
        yield failure(Flaw.STUDY, "The manifest is not the one that the index names.")
    if expected.study is not None and expected.study != digest:
        yield failure(Flaw.OTHER_CONSORTIUM, f"It is of another study, {digest}.")
    pinned = bytes.fromhex(study.secure_aggregation.roster)
    if expected.roster is not None and expected.roster != pinned.hex():
        yield failure(Flaw.OTHER_CONSORTIUM, f"Its study pins another roster, {pinned.hex()}.")
    if all(signed.roster.digest() != pinned for signed in evidence.rosters):
        yield failure(Flaw.ROSTER_PIN, "No roster in it is the one that the manifest pins.")
        return
    try:
        newest = in_force(evidence.rosters, pinned)
        check_membership(study, roster_with(evidence.rosters, pinned))
    except CraftsflError as error:
        yield failure(Flaw.ROSTER_SIGNATURES, error.message)
        return
    if newest.consortium != index.consortium:
        yield failure(Flaw.OTHER_CONSORTIUM, f"Its rosters are of {newest.consortium}.")
    for site in study.sites:
        if identity_of_site(evidence, site.name) is None:
            yield failure(Flaw.MEMBERSHIP, "No roster lists this site of the study.", site.name)


def rosters_of(evidence: Evidence) -> tuple[Roster, ...]:
    """All rosters, oldest first."""
    return tuple(signed.roster for signed in evidence.rosters)


def identity_of_site(evidence: Evidence, site: str) -> bytes | None:
    """The identity key of a site, as the newest roster has it that lists the site."""
    for roster in reversed(rosters_of(evidence)):
        member = roster.member_named(site)
        if member is not None:
            return member.public_key
    return None

"""Who takes part, and in what: the manifest, and the rosters from the first to the newest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from privacy.audit.evidence import Evidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.errors import ConfigError, CraftsflError
from privacy.identity import fingerprint
from privacy.secagg.chain import in_force, roster_with
from privacy.secagg.roster import Roster
from privacy.study.agreement import check_membership

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT: Final = re.compile(r"[0-9]{30}")


@dataclass(frozen=True, slots=True)
class KnownDigests:
    """What the auditor knows from elsewhere: digests in hex, or the digits of a fingerprint.

    None: taken from the bundle, and shown, to be compared by phone.
    """

    study: str | None = None
    roster: str | None = None

    @classmethod
    def told(cls, study: str | None, roster: str | None) -> KnownDigests:
        """From what a person types; `ConfigError` for what can be neither.

        A roster may also be told by its fingerprint, the digits that people compare by phone.
        """
        return cls(
            None if study is None else _hex(study, "--study", _DIGEST),
            None if roster is None else _hex(roster, "--roster", _DIGEST, _FINGERPRINT),
        )


def digest_of_file(text: str, option: str) -> str:
    """A file's SHA-256 as a person types it; `ConfigError` for what is none, and no file either."""
    return _hex(text, option, _DIGEST, what="file")


def _hex(text: str, option: str, *shapes: re.Pattern[str], what: str = "") -> str:
    plain = "".join(text.split()).lower()
    if not any(shape.fullmatch(plain) for shape in shapes):
        also = " and no fingerprint (30 digits)" if _FINGERPRINT in shapes else ""
        also += f", and there is no {what} of that name" if what else ""
        raise ConfigError(f"{option} is no digest (64 hex digits){also}.", "Type it again.")
    return plain


def check_membership_of(evidence: Evidence, expected: KnownDigests) -> Iterator[AuditFailure]:
    """The index, the manifest and the rosters agree, and are those that the auditor expects."""
    study, index = evidence.study, evidence.index
    digest = study.digest().hex()
    if index.study != digest:
        yield failure(Flaw.STUDY, "The manifest is not the one that the index names.")
    if expected.study is not None and expected.study != digest:
        yield failure(Flaw.OTHER_CONSORTIUM, f"It is of another study, {digest}.")
    pinned = bytes.fromhex(study.secure_aggregation.roster)
    known = pinned.hex(), fingerprint(pinned).replace(" ", "")
    if expected.roster is not None and expected.roster not in known:
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

"""The opening of a session, checked by every site and by the server: offer, keys, the group's box.

    offer : H("session-offer", the bytes before its signature)        by the coordinator's key
    key   : H("session-key", sd, the bytes before its signature)      by the site
    group : H("session-group-signed", sd, kd, those before its signature)   by the dealer
    step  : H("step", the bytes before its signature)                 by the coordinator's key

are what signatures cover; sd and kd as in `label`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from privacy.errors import SecAggError
from privacy.identity import Identity, verify
from privacy.secagg import keys
from privacy.secagg.advertising import public_key
from privacy.secagg.keys import digest
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.label import SealedStudy
from privacy.secagg.witness import Shown
from privacy.wire.bodies import SIGNATURE_BYTES
from privacy.wire.checks import Check
from privacy.wire.sealed import SealedStep
from privacy.wire.session import (
    SEALED_VERSION,
    SessionGroup,
    SessionKey,
    SessionKeys,
    SessionOffer,
)

_OFFER: Final = b"session-offer"
_KEY: Final = b"session-key"
_GROUP: Final = b"session-group-signed"
_STEP: Final = b"step"


def offered_session(
    coordinator: Identity,
    study: SealedStudy,
    run: int,
    session: int,
    members: tuple[int, ...],
    expiry: int,
    first: int = 1,
) -> SessionOffer:
    """A signed offer of a session for the study's steps from `first` on."""
    offer = SessionOffer(
        version=SEALED_VERSION,
        run=run,
        session=session,
        first=first,
        last=study.steps,
        attempts=study.attempts,
        study_digest=study.study_digest,
        roster_digest=study.roster_digest,
        terms_digest=study.terms_digest,
        expiry=expiry,
        members=members,
        signature=bytes(SIGNATURE_BYTES),
    )
    return replace(offer, signature=coordinator.sign(_offered(offer)))


def signed_key(identity: Identity, sd: bytes, entry: SessionKey) -> SessionKey:
    """`entry` with the site's signature."""
    return replace(entry, signature=identity.sign(_advertised(sd, entry)))


def signed_group(identity: Identity, sd: bytes, kd: bytes, group: SessionGroup) -> SessionGroup:
    """`group` with the dealer's signature."""
    return replace(group, signature=identity.sign(_dealt(sd, kd, group)))


def signed_step(coordinator: Identity, step: SealedStep) -> SealedStep:
    """`step` with the coordinator's signature."""
    return replace(step, signature=coordinator.sign(_asked(step)))


def check_offer(offer: SessionOffer, study: SealedStudy, roster: Roster) -> None:
    """Raise `Refused` for an offer that no site of the study may take."""
    if offer.version != SEALED_VERSION:
        raise Refused(Check.VERSION)
    if not verify(study.coordinator, offer.signature, _offered(offer)):
        raise Refused(Check.SIGNATURE)
    if offer.study_digest != study.study_digest:
        raise Refused(Check.RECIPE)
    if offer.roster_digest != study.roster_digest:
        raise Refused(Check.ROSTER)
    if offer.terms_digest != study.terms_digest:
        raise Refused(Check.PRIVACY)
    if (offer.last, offer.attempts) != (study.steps, study.attempts):
        raise Refused(Check.SESSION_STEPS)
    strangers = set(offer.members) - set(roster.sites)
    if strangers:
        raise Refused(Check.COHORT, min(strangers))
    if len(offer.members) < study.n_min:
        raise Refused(Check.COHORT_SIZE)


def check_key(entry: SessionKey, offer: SessionOffer, sd: bytes, roster: Roster) -> None:
    """Raise `Refused` for a stranger, a bad signature or an unusable key."""
    if entry.site not in offer.members:
        raise Refused(Check.NOT_IN_COHORT, entry.site)
    if not verify(public_key(roster, entry.site), entry.signature, _advertised(sd, entry)):
        raise Refused(Check.SIGNATURE, entry.site)
    try:
        keys.check_public(entry.key)
    except SecAggError:
        raise Refused(Check.KEY, entry.site) from None


def check_key_list(listed: SessionKeys, offer: SessionOffer, sd: bytes, roster: Roster) -> None:
    """Raise `Refused` for a list that is too short, repeats a key, or has a bad entry."""
    seen: set[bytes] = set()
    for entry in listed.entries:
        check_key(entry, offer, sd, roster)
        if entry.key in seen:
            raise Refused(Check.REPEATED_KEY, entry.site)
        seen.add(entry.key)


def check_group(
    group: SessionGroup, listed: SessionKeys, sd: bytes, kd: bytes, roster: Roster
) -> None:
    """Raise `Refused` for a group that is not for exactly the others of the list, or not signed."""
    others = tuple(site for site in listed.sites if site != group.dealer)
    if group.dealer not in listed.sites or tuple(site for site, _ in group.boxes) != others:
        raise Refused(Check.GROUP, group.dealer)
    signed = _dealt(sd, kd, group)
    if not verify(public_key(roster, group.dealer), group.signature, signed):
        raise Refused(Check.SIGNATURE, group.dealer)


def check_step_signature(step: SealedStep, study: SealedStudy) -> None:
    """Raise `Refused` if the coordinator of the study has not signed `step`."""
    if not verify(study.coordinator, step.signature, _asked(step)):
        raise Refused(Check.SIGNATURE)


def shown_ledger(entry: SessionKey, roster: Roster) -> Shown:
    """What `entry`, which has been checked, says about its site's ledger."""
    return Shown(entry.site, public_key(roster, entry.site), entry.ledger)


def _offered(offer: SessionOffer) -> bytes:
    return digest(_OFFER, offer.signed_part())


def _advertised(sd: bytes, entry: SessionKey) -> bytes:
    return digest(_KEY, sd, entry.signed_part())


def _dealt(sd: bytes, kd: bytes, group: SessionGroup) -> bytes:
    return digest(_GROUP, sd, kd, group.signed_part())


def _asked(step: SealedStep) -> bytes:
    return digest(_STEP, step.signed_part())

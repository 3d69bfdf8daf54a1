"""The check of advertised keys: the same at every site and at the server."""

from __future__ import annotations

from privacy.errors import SecAggError
from privacy.identity import verify
from privacy.secagg import keys, transcript
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.secagg.witness import Shown
from privacy.wire.checks import Check
from privacy.wire.offer import Offer
from privacy.wire.secagg import Advertise, Advertisements


def check_advertisements(
    advertisements: Advertisements, offer: Offer, od: bytes, roster: Roster
) -> None:
    """Raise `Refused` for strangers, bad keys, bad signatures and repeated keys."""
    seen: set[bytes] = set()
    for entry in advertisements.entries:
        if entry.site not in offer.cohort:
            raise Refused(Check.NOT_IN_COHORT, entry.site)
        check_advertisement(entry, od, roster)
        fresh = {entry.share_key, entry.mask_key, entry.commitment}
        if len(fresh) < 3 or fresh & seen:
            raise Refused(Check.REPEATED_KEY, entry.site)
        seen |= fresh


def check_advertisement(entry: Advertise, od: bytes, roster: Roster) -> None:
    """Raise `Refused` for a bad signature or an unusable key."""
    signed = transcript.advertised(od, entry)
    if not verify(public_key(roster, entry.site), entry.signature, signed):
        raise Refused(Check.SIGNATURE, entry.site)
    try:
        keys.check_public(entry.share_key)
        keys.check_public(entry.mask_key)
    except SecAggError:
        raise Refused(Check.KEY, entry.site) from None


def shown(entry: Advertise, roster: Roster) -> Shown:
    """What `entry`, which has been checked, says about its site's ledger."""
    return Shown(entry.site, public_key(roster, entry.site), entry.ledger)


def public_key(roster: Roster, site: int) -> bytes:
    """The identity key of a site of the cohort; the cohort lies within the roster."""
    member = roster.member(site)
    if member is None:
        raise Refused(Check.NOT_IN_COHORT, site)
    return member.public_key

"""Sessions and requests of sealed steps: signed, of this study, and labelled as they must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from privacy.audit.checks.membership import rosters_of
from privacy.audit.evidence import Evidence, RunEvidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.errors import CraftsflError
from privacy.secagg.roster import Member, Roster
from privacy.secagg.sealed.closing import check_close, confirms
from privacy.secagg.sealed.label import (
    ChainDigests,
    SealedStudy,
    SessionDigests,
    epoch_of,
    keys_digest,
    label_of,
    session_digest,
    session_digests,
)
from privacy.secagg.sealed.opening import (
    check_group,
    check_key_list,
    check_offer,
    check_step_signature,
)
from privacy.secagg.sealed.stored import StoredMachine
from privacy.study.manifest import Study
from privacy.study.pooling import sealed_study
from privacy.wire.closing import SealedConfirmed
from privacy.wire.sealed import SealedStep
from privacy.wire.session import SessionOffer, SessionOpening


@dataclass(frozen=True, slots=True)
class LayoutDigests:
    """Of the adapter's layout and of its frozen factors, 32 bytes each."""

    layout: bytes
    frozen: bytes


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session that holds: its offer, its digests, and the study as its members had it.

    `members`: the roster's, by id; `keyed`: the ids of those with a key in it.
    """

    offer: SessionOffer
    digests: SessionDigests
    terms: SealedStudy
    roster: Roster
    members: Mapping[int, Member]
    keyed: frozenset[int]


def sessions_of(
    evidence: Evidence, number: int, layout: LayoutDigests
) -> tuple[dict[bytes, OpenSession], list[AuditFailure]]:
    """The sessions of a run that hold, by sd, and what does not hold of the others."""
    held: dict[bytes, OpenSession] = {}
    failures: list[AuditFailure] = []
    rosters = {roster.digest(): roster for roster in rosters_of(evidence)}
    own = {site.name for site in evidence.study.sites}
    terms: dict[bytes, SealedStudy] = {}  # by the roster: each costs a moment
    failures += _in_order(evidence.runs[number], number, rosters)
    for stored in evidence.runs[number].sessions:
        roster = rosters.get(stored.offer.roster_digest)
        if roster is None:
            words = f"Session {stored.offer.session} is of a roster that is not in the history."
            failures.append(failure(Flaw.SESSION, words, run=number))
            continue
        members = {one.site: one.name for one in roster.members}
        for name in sorted({members.get(site, "") for site in stored.offer.members} - own):
            words = f"Session {stored.offer.session} has a member that the study has not."
            failures.append(failure(Flaw.SESSION, words, name, number))
        try:
            known = terms.get(stored.offer.roster_digest) or sealed_study(
                evidence.study, roster, layout.layout, layout.frozen
            )
            terms[stored.offer.roster_digest] = known
            opened = _opened(stored, roster, known)
        except CraftsflError as error:
            words = f"Session {stored.offer.session}: {error.message}"
            failures.append(failure(Flaw.SESSION, words, run=number))
            continue
        if opened is not None:
            held[opened.digests.session] = opened
        if stored.offer.run != number:
            words = f"Session {stored.offer.session} is of run {stored.offer.run}."
            failures.append(failure(Flaw.SESSION, words, run=number))
    return held, failures


def _in_order(
    run: RunEvidence, number: int, rosters: Mapping[bytes, Roster]
) -> Iterator[AuditFailure]:
    """Sessions are numbered upwards, none goes back to an older roster, none carries more."""
    last, newest = 0, 0
    for stored in run.sessions:
        session = stored.offer.session
        if session <= last:
            words = f"Session {session} comes after session {last}."
            yield failure(Flaw.SESSION, words, run=number)
        last = session
        roster = rosters.get(stored.offer.roster_digest)
        sequence = newest if roster is None else roster.sequence
        if sequence < newest:
            words = f"Session {session} is of roster {sequence}, and an earlier one of {newest}."
            yield failure(Flaw.SESSION, words, run=number)
        newest = max(newest, sequence)
        more = stored.step is not None or stored.in_session or stored.commitments
        if more or (stored.group is not None and not stored.closed):
            words = f"Session {session} carries what its members have not signed."
            yield failure(Flaw.SESSION, words, run=number)


def check_requests(
    evidence: Evidence, number: int, sessions: Mapping[bytes, OpenSession]
) -> Iterator[AuditFailure]:
    """Each request of a run is signed by the study's coordinator, and rightly labelled."""
    last = (0, 0)
    opened = {one.label for one in evidence.runs[number].sums}
    for request in evidence.runs[number].requests:
        where = ("", number, request.step, request.attempt)
        if (request.step, request.attempt) <= last:
            words = "The attempt was asked for twice, or stands out of order."
            yield failure(Flaw.REQUEST, words, *where)
        last = max(last, (request.step, request.attempt))
        if request.opening is not None or request.opened:
            yield failure(Flaw.REQUEST, "It carries what nobody has signed.", *where)
        session = sessions.get(request.session_digest)
        if session is None:
            yield failure(Flaw.REQUEST, "It is of a session that is not here.", *where)
            continue
        try:
            check_step_signature(request, session.terms)
        except CraftsflError:
            yield failure(Flaw.REQUEST, "The study's coordinator has not signed it.", *where)
        if label_for(session, request) != request.label:
            yield failure(Flaw.LABEL, "Its label does not follow from what it is about.", *where)
        if not epoch_of(session.offer, request.step, request.attempt):
            yield failure(Flaw.REQUEST, "Its session has no such step or attempt.", *where)
        if not session.keyed.issuperset(request.cohort):
            yield failure(Flaw.REQUEST, "It asks a site that has no key in its session.", *where)
        if request.label in opened and request.slot >= 1000 * session.offer.expiry:
            yield failure(Flaw.REQUEST, "Its session had ended when answers left.", *where)
        if len(request.cohort) < evidence.study.smallest_cohort:
            yield failure(Flaw.QUORUM, f"{len(request.cohort)} sites were asked.", *where)


def label_for(session: OpenSession, request: SealedStep) -> bytes:
    """The label that every honest site has for this request, 32 bytes."""
    chain = ChainDigests(request.adapter, request.state, request.sums)
    epoch = epoch_of(session.offer, request.step, request.attempt)
    return label_of(session.terms, session.digests, epoch, chain, request)


def check_closing(
    study: Study, number: int, run: RunEvidence, sessions: Mapping[bytes, OpenSession]
) -> Iterator[AuditFailure]:
    """The coordinator's last word of a run is its own, and so is each site's to it."""
    if run.closing is None:
        return
    session = next(
        (one for one in sessions.values() if one.offer.session == run.closing.close.session), None
    )
    if session is None:
        yield failure(Flaw.CLOSING, "It is of a session that is not here.", run=number)
        return
    try:
        check_close(run.closing.close, session.terms, number)
    except CraftsflError as error:
        yield failure(Flaw.CLOSING, error.message, run=number)
    if run.closing.close.opened:
        yield failure(Flaw.CLOSING, "It carries sums that nobody has signed.", run=number)
    ids = [site for site, _ in run.closing.confirmed]
    if ids != sorted(set(ids)):
        yield failure(Flaw.CLOSING, "A site stands in it twice, or out of order.", run=number)
    for site, signature in run.closing.confirmed:
        member = session.roster.member(site)
        word = SealedConfirmed(signature)
        if member is None or not confirms(word, run.closing.close, member.public_key):
            name = str(site) if member is None else member.name
            yield failure(Flaw.CLOSING, "The site has not signed the end.", name, number)


def end_notes(evidence: Evidence, number: int) -> Iterator[str]:
    """Of the end of a run, what nobody or not everybody has signed, in words."""
    run = evidence.runs[number]
    if run.closing is None:
        yield f"Run {number}: its end is not in the bundle."
        return
    cohort = set(run.sums[-1].cohort) if run.sums else set()
    few = len(cohort - {site for site, _ in run.closing.confirmed})
    if few:
        yield (
            f"Run {number}: {few} of the {len(cohort)} sites of its last step have not signed what "
            "it came to."
        )


def _opened(stored: StoredMachine, roster: Roster, terms: SealedStudy) -> OpenSession | None:
    """The session, checked; None for one that never had its keys, so that nothing was masked."""
    check_offer(stored.offer, terms, roster)
    sd = session_digest(stored.offer)
    check_key_list(stored.keys, stored.offer, sd, roster)
    if stored.group is None:
        return None
    kd = keys_digest(sd, stored.keys)
    check_group(stored.group, stored.keys, sd, kd, roster)
    opening = SessionOpening(stored.keys, stored.group)
    return OpenSession(
        offer=stored.offer,
        digests=session_digests(stored.offer, opening),
        terms=terms,
        roster=roster,
        members={member.site: member for member in roster.members},
        keyed=frozenset(stored.keys.sites),
    )

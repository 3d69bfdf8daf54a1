"""Every opened sum is that of the masked vectors that its sites signed, charged and sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from privacy.audit.checks.charges import LabelledSteps, asked_for
from privacy.audit.checks.steps import OpenSession
from privacy.audit.checks.witnesses import ShownLog
from privacy.audit.evidence import Evidence, RunEvidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.errors import CraftsflError
from privacy.identity import verify
from privacy.ledger import Entry, State
from privacy.secagg.roster import Member
from privacy.secagg.sealed.attempt import sealed_signed, sent_digest
from privacy.secagg.sealed.residues import no_residues, packed_residues, reduced, residue_sum
from privacy.wire.sealed import PROOF_LANES, OpenedSum, Sealed, SealedStep
from privacy.wire.secagg import Lanes

_TOGETHER: Final = 1 << 19  # lanes of vectors that are added at once


@dataclass
class SumReport:
    """By (step, attempt). `left_out`: sums that could not be worked out again; `unopened`: attempts
    of which every vector is here, and no sum.
    """

    failures: list[AuditFailure] = field(default_factory=list)
    left_out: list[tuple[int, int]] = field(default_factory=list)
    unopened: list[tuple[int, int]] = field(default_factory=list)
    recomputed: int = 0


def check_sums(
    evidence: Evidence,
    number: int,
    sessions: Mapping[bytes, OpenSession],
    ledgers: LabelledSteps,
    shown: ShownLog,
) -> SumReport:
    """All sums of a run, and all vectors of it, with what their sites cosigned of the log."""
    run, report = evidence.runs[number], SumReport()
    asked = asked_for(run)
    read, seen = _Vectors(number, run, ledgers, report, shown), set[bytes]()
    for found in run.sums:
        where = ("", number, found.step, found.attempt)
        if found.label in seen:  # each costs all of its vectors again
            report.failures.append(failure(Flaw.SUM, "Its sum is there twice.", *where))
            continue
        seen.add(found.label)
        request = asked.get(found.label)
        session = None if request is None else sessions.get(request.session_digest)
        if request is None or session is None or not _of(found, request, session):
            words = "It is not the sum of a request in the bundle."
            report.failures.append(failure(Flaw.SUM, words, *where))
            continue
        if len(found.lanes) != session.terms.sent:
            report.failures.append(failure(Flaw.SUM, "It has another length.", *where))
            continue
        report.failures += _charged(found, number, session, ledgers)
        _added(found, session, read, report, where)
    read.check_rest(asked, sessions)
    read.check_order(run.requests)
    report.unopened += _unopened(run, sessions)
    return report


def _unopened(run: RunEvidence, sessions: Mapping[bytes, OpenSession]) -> Iterator[tuple[int, int]]:
    """Whoever has all vectors can add them up: their sum is as good as opened, and is charged."""
    opened = {one.label for one in run.sums}
    for request in run.requests:
        session = sessions.get(request.session_digest)
        if request.label in opened or session is None:
            continue
        members = (session.members.get(site) for site in request.cohort)
        if all(m is not None and request.label in run.vectors.get(m.name, {}) for m in members):
            yield request.step, request.attempt


def _of(found: OpenedSum, request: SealedStep, session: OpenSession) -> bool:
    numbers = (found.session, found.step, found.attempt, found.cohort)
    return numbers == (session.offer.session, request.step, request.attempt, request.cohort)


def _charged(
    found: OpenedSum,
    number: int,
    session: OpenSession,
    ledgers: Mapping[str, Mapping[bytes, Entry]],
) -> Iterator[AuditFailure]:
    for site in found.cohort:
        member = session.members.get(site)
        name = str(site) if member is None else member.name
        entry = ledgers.get(name, {}).get(found.label)
        if entry is None or entry.state is not State.COMMITTED or not entry.sent:
            words = "The site is in a sum that its ledger has not charged."
            yield failure(Flaw.NOT_CHARGED, words, name, number, found.step, found.attempt)


def _added(
    found: OpenedSum,
    session: OpenSession,
    read: _Vectors,
    report: SumReport,
    where: tuple[str, int, int, int],
) -> None:
    """Add the vectors up again, where all of them are here."""
    total, whole = _Total(session.terms.lanes, session.terms.bits), True
    for site in found.cohort:
        member = session.members.get(site)
        sealed = None if member is None else read.take(member, found, session)
        if sealed is None:
            whole = False
            continue
        total.add(sealed.lanes)
    if not whole:
        report.left_out.append((found.step, found.attempt))
        return
    report.recomputed += 1
    lanes = total.lanes()
    if lanes[-PROOF_LANES] != 0 or not np.array_equal(lanes, found.lanes):
        words = "The opened sum is not that of the vectors which the sites signed."
        report.failures.append(failure(Flaw.SUM, words, *where))


class _Total:
    """Masked vectors, uint64 [L + 3], added up as the coordinator adds them."""

    def __init__(self, lanes: int, bits: int) -> None:
        self._bits = bits
        self._numbers = no_residues(lanes, bits)
        self._proof = np.zeros(PROOF_LANES, np.uint64)
        self._waiting: list[Lanes] = []
        self._together = max(1, _TOGETHER // max(1, lanes))

    def add(self, lanes: Lanes) -> None:
        """One vector more."""
        self._proof += lanes[-PROOF_LANES:]
        self._waiting.append(lanes[:-PROOF_LANES])
        if len(self._waiting) >= self._together:
            self._flush()

    def lanes(self) -> Lanes:
        """The sum, uint64 [L + 3]."""
        self._flush()
        packed = packed_residues(reduced(self._numbers, self._bits), self._bits)
        return np.concatenate((packed, self._proof))

    def _flush(self) -> None:
        if self._waiting:
            more = residue_sum(self._waiting, self._bits)
            np.add(self._numbers, more, out=self._numbers)
            self._waiting.clear()


class _Vectors:
    """The vectors of a run, each decoded once, when it is needed."""

    def __init__(
        self,
        number: int,
        run: RunEvidence,
        ledgers: Mapping[str, Mapping[bytes, Entry]],
        report: SumReport,
        shown: ShownLog,
    ) -> None:
        self._shown = shown
        self._number, self._run, self._ledgers, self._report = number, run, ledgers, report
        self._taken: set[tuple[str, bytes]] = set()

    def take(self, member: Member, found: OpenedSum, session: OpenSession) -> Sealed | None:
        """The vector of a member of a sum; None, and a failure unless it was left out, if not."""
        name, label = member.name, found.label
        where = (name, self._number, found.step, found.attempt)
        data = self._run.vectors.get(name, {}).get(label)
        if data is not None:
            self._taken.add((name, label))
            return self._checked(data, member, session, where)
        named = self._run.left_out.get(name, {}).get(label)
        if named is None:
            words = "Its vector is neither here nor named by its digest."
            self._report.failures.append(failure(Flaw.VECTOR_MISSING, words, *where))
        else:
            self._taken.add((name, label))
            self._compare(named, label, where)
        return None

    def check_rest(
        self, asked: Mapping[bytes, SealedStep], sessions: Mapping[bytes, OpenSession]
    ) -> None:
        """Vectors of attempts that opened nothing were sent, so they are charged all the same."""
        for name, rows in self._run.vectors.items():
            for label, data in rows.items():
                if (name, label) in self._taken:
                    continue
                request = asked.get(label)
                session = None if request is None else sessions.get(request.session_digest)
                member = None if session is None else session.roster.member_named(name)
                if request is None or session is None or member is None:
                    words = "A vector that nobody has asked for."
                    self._say(Flaw.VECTOR_OTHER, words, (name, self._number, 0, 0))
                    continue
                where = (name, self._number, request.step, request.attempt)
                self._checked(data, member, session, where)
        self._check_named(asked, sessions)

    def check_order(self, requests: tuple[SealedStep, ...]) -> None:
        """A site's vectors stand as they were asked for: there is one way to list them."""
        places = {request.label: place for place, request in enumerate(requests)}
        for name, rows in self._run.vectors.items():
            found = [places[label] for label in rows if label in places]
            if found != sorted(found):
                where = (name, self._number, 0, 0)
                self._say(Flaw.VECTOR_OTHER, "Its vectors stand out of order.", where)

    def _check_named(
        self, asked: Mapping[bytes, SealedStep], sessions: Mapping[bytes, OpenSession]
    ) -> None:
        """A digest says that a vector was sent, also where no sum came of it."""
        for name, named in self._run.left_out.items():
            for label, digest in named.items():
                request = asked.get(label)
                session = None if request is None else sessions.get(request.session_digest)
                member = None if session is None else session.roster.member_named(name)
                if label in self._run.vectors.get(name, {}):
                    words = "A vector that is here is named by a digest too."
                    self._say(Flaw.VECTOR_OTHER, words, (name, self._number, 0, 0))
                elif request is None or member is None or member.site not in request.cohort:
                    words = "The digest of a vector that nobody has asked for."
                    self._say(Flaw.VECTOR_OTHER, words, (name, self._number, 0, 0))
                elif (name, label) not in self._taken:
                    where = (name, self._number, request.step, request.attempt)
                    self._compare(digest, label, where)

    def _checked(
        self,
        data: bytes,
        member: Member,
        session: OpenSession,
        where: tuple[str, int, int, int],
    ) -> Sealed | None:
        try:
            sealed = Sealed.decode(data)
        except CraftsflError as error:
            self._say(Flaw.MALFORMED, error.message, where)
            return None
        key = member.public_key
        if not verify(key, sealed.signature, sealed_signed(sealed, key)):
            self._say(Flaw.VECTOR_SIGNATURE, "The site has not signed this vector.", where)
        uncosigned = self._shown.check_vector(sealed, member, where)
        if uncosigned is not None:
            self._report.failures.append(uncosigned)
        if len(sealed.lanes) != session.terms.sent:
            self._say(Flaw.VECTOR_OTHER, "The vector has another length.", where)
            return None
        self._compare(sent_digest(sealed.lanes), sealed.label, where)
        return sealed

    def _compare(self, digest: bytes, label: bytes, where: tuple[str, int, int, int]) -> None:
        entry = self._ledgers.get(where[0], {}).get(label)
        if entry is None or entry.state is not State.COMMITTED:
            words = "A vector left that the site's ledger has not charged."
            self._say(Flaw.NOT_CHARGED, words, where)
        elif entry.sent != digest:
            words = "The vector is not the one whose digest is in the site's ledger."
            self._say(Flaw.VECTOR_OTHER, words, where)

    def _say(self, fault: Flaw, words: str, where: tuple[str, int, int, int]) -> None:
        self._report.failures.append(failure(fault, words, *where))

"""Which adapter was promoted when: in the log, in order, on what the manifest asks for.

A coordinator that promotes what no log holds is found by whoever has the adapter: the auditor is
told its digest (`--champion`), and the newest promotion in the log has to be of it.
"""

# Why: docs/adr/0065-promotions-and-witnesses.md

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from privacy.audit.checks.costs import SAME, whole_cost
from privacy.audit.evidence import ADAPTER_FILE, Evidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.audit.promotions import (
    MOST_PROMOTIONS,
    LoggedPromotion,
    PromotionRow,
    decode_promotions,
    readers_of,
    signoff_of,
)
from privacy.audit.readers_demand import counting_readers, readers_answers
from privacy.audit.readers_result import SignedReaders
from privacy.audit.records import FINISHED
from privacy.audit.signoff import SignedVerdict, signed_off
from privacy.errors import AuditError
from privacy.log.entries import EntryKind, LogEntry, LogFacts, facts_of
from privacy.log.replay import LogReplay
from privacy.study.manifest import Study

PROMOTIONS_FILE = "promotions.json"
_FLAWS: Final = {EntryKind.SIGNOFF: Flaw.SIGNOFF, EntryKind.READERS: Flaw.READERS}


def check_promotions(
    evidence: Evidence, replay: LogReplay | None, champion: str | None = None
) -> tuple[tuple[PromotionRow, ...], list[AuditFailure]]:
    """The promotions of the study, in order, and what does not hold of them.

    `champion`: SHA-256 (hex) of the adapter that somebody was given as the champion.
    """
    failures: list[AuditFailure] = []
    try:
        listed = evidence.files.get(PROMOTIONS_FILE)
        told = () if listed is None else decode_promotions(listed)
        if listed is not None and not told:
            raise AuditError("The list of promotions is empty, and is there.")
    except AuditError as error:
        return (), [failure(Flaw.PROMOTION, error.message)]
    rows = told
    if replay is not None:
        logged = _logged(evidence.study, replay, failures)
        rows = tuple(logged.rows)
        failures += _compared(told, logged)
    failures += _followed(evidence, rows)
    if champion is not None:
        failures += _champion([row.promotion for row in rows], champion)
    return rows, failures


def readers_of_promoted(study: Study, rows: Sequence[PromotionRow]) -> list[SignedReaders]:
    """The readers' results on which the promotions rest, each once."""
    wanted = None if study.promotion is None else study.promotion.readers
    if wanted is None:
        return []
    own = study.digest().hex()
    found = (counting_readers(wanted, (row.promotion.digest, own), row.readings) for row in rows)
    return list(dict.fromkeys(one for counted in found for one in counted))


def promotions_in(entries: Iterable[bytes]) -> list[LogFacts]:
    """What the log's entries say of promotions, in order."""
    found = map(LogEntry.decode, entries)
    return [facts_of(one.body) for one in found if one.kind is EntryKind.PROMOTION]


@dataclass
class _Logged:
    """What the log has of a study: promotions, each with the verdicts and results that count for
    its adapter and came before it, and all verdicts.

    Grouped by adapter, one for each auditor: what a promotion rests on is never a list of all that
    anybody ever signed.
    """

    study: Study
    rows: list[PromotionRow] = field(default_factory=list)
    verdicts: set[SignedVerdict] = field(default_factory=set)
    signed: dict[str, dict[str, SignedVerdict]] = field(default_factory=dict)
    read: dict[str, dict[SignedReaders, None]] = field(default_factory=dict)

    def take(self, own: str, kind: EntryKind, said: LogFacts) -> None:
        """An entry; `own`: the study's digest, hex. `AuditError` for one that does not hold."""
        if kind is EntryKind.SIGNOFF:
            verdict = signoff_of(said)
            if verdict.study == own:
                self._sign(verdict)
        elif kind is EntryKind.READERS:
            result = readers_of(said)
            if result.study == own:
                _check_reading(self.study, result)
                self.read.setdefault(result.adapter, {})[result] = None
        elif kind is EntryKind.PROMOTION and said.get("study") == own:
            one = LoggedPromotion.of_facts(said)
            if len(self.rows) == MOST_PROMOTIONS:
                raise AuditError(f"it has more than {MOST_PROMOTIONS} promotions.")
            signed = tuple(self.signed.get(one.digest, {}).values())
            self.rows.append(PromotionRow(one, signed, tuple(self.read.get(one.digest, {}))))

    def _sign(self, one: SignedVerdict) -> None:
        if not signed_off(self.study, one.bundle, [one]):
            raise AuditError(
                f"the verdict in the name of {one.auditor} is not signed by that auditor."
            )
        self.verdicts.add(one)
        for digest in {one.bundle, one.adapter} - {""}:
            self.signed.setdefault(digest, {})[one.auditor] = one


def _logged(study: Study, replay: LogReplay, failures: list[AuditFailure]) -> _Logged:
    """The log's promotions of the study, each with what it can rest on."""
    found, own = _Logged(study), study.digest().hex()
    for kind, said in replay.facts:
        try:
            found.take(own, kind, said)
        except AuditError as error:
            flaw = _FLAWS.get(kind, Flaw.PROMOTION)
            failures.append(failure(flaw, f"In the log: {error.message}"))
    return found


def _check_reading(study: Study, one: SignedReaders) -> None:
    """Raise `AuditError` for a readers' result that its signer has not signed."""
    wanted = None if study.promotion is None else study.promotion.readers
    if wanted and not counting_readers(wanted, (one.adapter, one.study), [one]):
        raise AuditError(f"the readers' result in the name of {one.signer} is not signed by them.")


def _compared(told: Sequence[PromotionRow], logged: _Logged) -> Iterator[AuditFailure]:
    here, there = [one.promotion for one in told], [one.promotion for one in logged.rows]
    both = {*here} & {*there}
    for one in dict.fromkeys(here):
        if one not in both:
            words = f"The log does not hold the promotion of version {one.version}."
            yield failure(Flaw.PROMOTION, words, run=one.run)
    for one in dict.fromkeys(there):
        if one not in both:
            words = f"The log holds a promotion of version {one.version} that the list lacks."
            yield failure(Flaw.PROMOTION, words, run=one.run)
    if here != there and not {*here} ^ {*there}:
        words = "The list has the log's promotions in another order, or one of them twice."
        yield failure(Flaw.PROMOTION, words)
    for row in told:
        for signed in row.signoffs:
            if signed not in logged.verdicts:
                words = (
                    f"The list has a verdict in the name of {signed.auditor} that the log lacks."
                )
                yield failure(Flaw.SIGNOFF, words, run=row.promotion.run)


def _followed(evidence: Evidence, rows: Sequence[PromotionRow]) -> Iterator[AuditFailure]:
    study, before, own = evidence.study, set[str](), evidence.study.digest().hex()
    opened = {
        number: len({one.round for one in run.record.attempts if one.opened})
        for number, run in evidence.runs.items()
    }
    for place, row in enumerate(rows, start=1):
        one = row.promotion
        what = f"The promotion of version {one.version}"
        if one.study != own:
            yield failure(Flaw.PROMOTION, f"{what} is of another study.", run=one.run)
        if one.number != place:
            words = f"{what} is number {one.number}, and stands at place {place}."
            yield failure(Flaw.PROMOTION, words, run=one.run)
        yield from _released(evidence, one, opened.get(one.run, 0), what)
        if one.back and one.digest not in before:
            words = f"{what} goes back to an adapter that was never promoted before."
            yield failure(Flaw.PROMOTION, words, run=one.run)
        # A rollback shows nothing anew: what it goes back to has shown it when it was promoted.
        if not (one.back and one.digest in before):
            yield from _demands(evidence, one, what)
            yield from _signed_off(study, row, what)
            yield from _read(study, row, what)
        before.add(one.digest)


def _released(
    evidence: Evidence, one: LoggedPromotion, opened: int, what: str
) -> Iterator[AuditFailure]:
    run = evidence.runs.get(one.run)
    if run is None or run.record.released != one.digest:
        words = f"{what} is of an adapter that its run did not release."
        yield failure(Flaw.PROMOTION, words, run=one.run)
        return
    if run.record.state != FINISHED or opened < evidence.study.rounds:
        words = f"{what} is of a run that is {run.record.state}, after {opened} rounds."
        yield failure(Flaw.PROMOTION, words, run=one.run)


def _demands(evidence: Evidence, one: LoggedPromotion, what: str) -> Iterator[AuditFailure]:
    """Of the manifest's demands, those of which a bundle has the evidence."""
    wanted, run = evidence.study.promotion, evidence.runs.get(one.run)
    if wanted is None or run is None:
        return
    if wanted.epsilon is not None:
        whole = whole_cost(evidence.study)
        if not whole <= wanted.epsilon * (1 + SAME):
            words = f"{what} costs ε {whole:.6g}; the manifest allows {wanted.epsilon:g}."
            yield failure(Flaw.PROMOTION, words, run=one.run)
    if wanted.confirmations is not None and run.closing is not None:
        found = len({site for site, _ in run.closing.confirmed})
        if found < wanted.confirmations:
            words = f"{what} was confirmed by {found} of the {wanted.confirmations} sites it takes."
            yield failure(Flaw.PROMOTION, words, run=one.run)


def promotion_notes(
    evidence: Evidence, found: Sequence[LoggedPromotion], shown: str = ""
) -> Iterator[str]:
    """What a bundle cannot show of its promotions, in words.

    `shown`: SHA-256 (hex) of a file that is not in it, and was worked out again all the same.
    """
    study, data = evidence.study, evidence.files.get(ADAPTER_FILE)
    here = "" if data is None else hashlib.sha256(data).hexdigest()
    for one in found:
        if one.digest not in (here, shown):
            yield (
                f"Promotion {one.number}: the adapter of version {one.version} is not in the "
                "bundle. That its file holds what its run came to is the coordinator's word, until "
                "you give the file with --champion."
            )
    wanted = study.promotion
    if found and wanted is not None and wanted.improves:
        yield (
            "Promotions: the manifest also demands figures of quality, which are not in a bundle. "
            "That they were shown is the coordinator's word."
        )
    if wanted is None or wanted.confirmations is None:
        return
    for run in sorted({one.run for one in found if not one.back}):
        ended = evidence.runs.get(run)
        if ended is not None and ended.closing is None:
            yield f"Promotions: how many sites confirmed run {run} is not in the bundle."


def _signed_off(study: Study, row: PromotionRow, what: str) -> Iterator[AuditFailure]:
    if study.auditors is None:
        return
    names = signed_off(study, row.promotion.digest, row.signoffs)
    if len(names) < study.auditors.needed:
        words = (
            f"{what} rests on {len(names)} of the {study.auditors.needed} auditors' signatures "
            f"that the manifest asks for{': ' + ', '.join(sorted(names)) if names else ''}."
        )
        yield failure(Flaw.SIGNOFF, words, run=row.promotion.run)


def _read(study: Study, row: PromotionRow, what: str) -> Iterator[AuditFailure]:
    """What the manifest demands of readers, by the coordinator's own rule."""
    wanted = None if study.promotion is None else study.promotion.readers
    if wanted is None:
        return
    of = (row.promotion.digest, study.digest().hex())
    for demanded, met, found in readers_answers(wanted, of, row.readings):
        if not met:
            words = f"{what} does not show that {demanded} ({found})."
            yield failure(Flaw.READERS, words, run=row.promotion.run)


def _champion(found: Sequence[LoggedPromotion], champion: str) -> Iterator[AuditFailure]:
    own = [one for one in found if one.digest == champion]
    if not own:
        words = f"The champion that you were given ({champion[:16]}…) was never promoted."
        yield failure(Flaw.PROMOTION, words)
    elif found[-1].digest != champion:
        words = (
            f"The champion that you were given is version {own[-1].version}; the newest promotion "
            f"is of version {found[-1].version}."
        )
        yield failure(Flaw.PROMOTION, words, run=own[-1].run)

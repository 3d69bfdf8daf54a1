"""What was asked, what was charged and what was opened are the same, attempt by attempt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from privacy.audit.evidence import Evidence, RunEvidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.ledger import Entry, State
from privacy.ledger.anchors import INHERITED_RUN
from privacy.wire.sealed import SealedStep


def check_charges(evidence: Evidence) -> Iterator[AuditFailure]:
    """Each ledger's attempts at the study against the runs in the bundle."""
    study = evidence.study.digest()
    for name, chain in sorted(evidence.ledgers.items()):
        own = [
            entry
            for entry in chain.entries
            if entry.key.study == study and entry.key.run != INHERITED_RUN
        ]
        asked = _sealed_faults if evidence.study.pools_noise else _masked_faults
        yield from asked(name, own, evidence.runs)
    if not evidence.study.pools_noise:
        yield from _opened_without_charge(evidence)


def check_not_empty(evidence: Evidence) -> Iterator[AuditFailure]:
    """There is at least one attempt that was charged and opened: else nothing is shown."""
    opened = any(one.opened for run in evidence.runs.values() for one in run.record.attempts)
    charged = any(
        entry.state is State.COMMITTED and entry.key.study == evidence.study.digest()
        for chain in evidence.ledgers.values()
        for entry in chain.entries
    )
    if not opened or not charged:
        words = "No round of the study was opened and charged: there is nothing to verify."
        yield failure(Flaw.EMPTY_STUDY, words)


def by_label(entries: Iterable[Entry], study: bytes) -> dict[bytes, Entry]:
    """Sealed steps of a ledger that this study (its digest) pays for, by their labels."""
    return {
        entry.mark.label: entry
        for entry in entries
        if entry.mark is not None and entry.key.study == study
    }


def _sealed_faults(
    name: str, entries: list[Entry], runs: Mapping[int, RunEvidence]
) -> Iterator[AuditFailure]:
    asked = {
        number: {request.label: request for request in run.requests} for number, run in runs.items()
    }
    for entry in entries:
        key, mark = entry.key, entry.mark
        where = (name, key.run, key.round, key.attempt)
        if mark is None:
            if entry.state is State.COMMITTED:
                yield failure(Flaw.NOT_ASKED, "It is charged for no step.", *where)
            continue
        request = asked.get(key.run, {}).get(mark.label)
        if request is None:
            words = "The ledger has an attempt whose request is not in the bundle."
            yield failure(Flaw.NOT_ASKED, words, *where)
        elif not _same(entry, request):
            words = "The ledger has another step, attempt or cohort than the request."
            yield failure(Flaw.NOT_ASKED, words, *where)


def _same(entry: Entry, request: SealedStep) -> bool:
    numbers = (request.step, request.attempt) == (entry.key.round, entry.key.attempt)
    return numbers and entry.mark is not None and entry.mark.cohort == request.cohort


def _masked_faults(
    name: str, entries: list[Entry], runs: Mapping[int, RunEvidence]
) -> Iterator[AuditFailure]:
    asked = {
        number: {(one.round, one.attempt) for one in run.record.attempts}
        for number, run in runs.items()
    }
    for entry in entries:
        key = entry.key
        if (key.round, key.attempt) not in asked.get(key.run, set()):
            words = "The ledger has an attempt that is in no record of the coordinator."
            yield failure(Flaw.NOT_ASKED, words, name, key.run, key.round, key.attempt)


def _opened_without_charge(evidence: Evidence) -> Iterator[AuditFailure]:
    charged = {
        name: {
            (entry.key.run, entry.key.round, entry.key.attempt)
            for entry in chain.entries
            if entry.state is State.COMMITTED and entry.key.study == evidence.study.digest()
        }
        for name, chain in evidence.ledgers.items()
    }
    for number, run in evidence.runs.items():
        for one in run.record.attempts:
            if one.opened and len(one.sites) < evidence.study.smallest_cohort:
                words = f"A sum of {len(one.sites)} sites was opened."
                yield failure(Flaw.QUORUM, words, "", number, one.round, one.attempt)
            for site in one.sites if one.opened else ():
                if (number, one.round, one.attempt) not in charged.get(site, set()):
                    words = "The site is in a sum that its ledger has not charged."
                    yield failure(Flaw.NOT_CHARGED, words, site, number, one.round, one.attempt)

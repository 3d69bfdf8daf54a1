"""What was asked, what was charged and what was opened are the same, attempt by attempt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from privacy.audit.evidence import Evidence, RunEvidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.ledger import Entry, State
from privacy.ledger.anchors import INHERITED_RUN
from privacy.ledger.chain import Chain
from privacy.ledger.records import NO_LEDGER
from privacy.wire.sealed import SealedStep


def check_charges(evidence: Evidence) -> Iterator[AuditFailure]:
    """Each ledger's attempts at the study against the runs in the bundle."""
    study = evidence.study.digest()
    pooled = evidence.study.pools_noise
    requests = _requests(evidence.runs) if pooled else {}
    attempts = {} if pooled else _attempts(evidence.runs)
    for name, chain in sorted(evidence.ledgers.items()):
        yield from _not_taken_over(name, chain)
        own = [
            entry
            for entry in chain.entries
            if entry.key.study == study and entry.key.run != INHERITED_RUN
        ]
        if pooled:
            yield from _sealed_faults(name, own, requests)
        else:
            yield from _masked_faults(name, own, attempts)
    if not evidence.study.pools_noise:
        yield from _opened_without_charge(evidence)


def check_not_empty(evidence: Evidence) -> Iterator[AuditFailure]:
    """There is at least one attempt that was charged and opened: else nothing is shown."""
    study = evidence.study.digest()
    opened = any(one.opened for run in evidence.runs.values() for one in run.record.attempts)
    charged = any(
        entry.state is State.COMMITTED and entry.key.study == study
        for chain in evidence.ledgers.values()
        for entry in chain.entries
    )
    if not opened or not charged:
        words = "No round of the study was opened and charged: there is nothing to verify."
        yield failure(Flaw.EMPTY_STUDY, words)


LabelledSteps: TypeAlias = Mapping[str, Mapping[bytes, Entry]]
"""By the site's name, and by the step's label."""


def labelled_steps(evidence: Evidence) -> LabelledSteps:
    """The sealed steps of all ledgers for which the study pays."""
    study = evidence.study.digest()
    return {
        name: {
            entry.mark.label: entry
            for entry in chain.entries
            if entry.mark is not None and entry.key.study == study
        }
        for name, chain in evidence.ledgers.items()
    }


def _not_taken_over(name: str, chain: Chain) -> Iterator[AuditFailure]:
    """Only a ledger that stands for a lost one begins with charges that nobody asked it for."""
    recovered = any(bound.replaced != NO_LEDGER for bound in chain.bindings)
    for entry in chain.entries:
        if entry.key.run == INHERITED_RUN and (entry.mark is not None or not recovered):
            words = "It calls charges taken over, and stands for no lost ledger that had them."
            yield failure(Flaw.NOT_ASKED, words, name)
            return


_Requests: TypeAlias = Mapping[int, Mapping[bytes, SealedStep]]
_Attempts: TypeAlias = Mapping[int, frozenset[tuple[int, int]]]


def _requests(runs: Mapping[int, RunEvidence]) -> _Requests:
    return {number: asked_for(run) for number, run in runs.items()}


def asked_for(run: RunEvidence) -> dict[bytes, SealedStep]:
    """A run's requests by label; of two with one label the first, so that nobody pays for both."""
    return {one.label: one for one in reversed(run.requests)}


def _attempts(runs: Mapping[int, RunEvidence]) -> _Attempts:
    return {
        number: frozenset((one.round, one.attempt) for one in run.record.attempts)
        for number, run in runs.items()
    }


def _sealed_faults(name: str, entries: list[Entry], asked: _Requests) -> Iterator[AuditFailure]:
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


def _masked_faults(name: str, entries: list[Entry], asked: _Attempts) -> Iterator[AuditFailure]:
    for entry in entries:
        key = entry.key
        if (key.round, key.attempt) not in asked.get(key.run, ()):
            words = "The ledger has an attempt that is in no record of the coordinator."
            yield failure(Flaw.NOT_ASKED, words, name, key.run, key.round, key.attempt)


def _opened_without_charge(evidence: Evidence) -> Iterator[AuditFailure]:
    study = evidence.study.digest()
    charged = {
        name: {
            (entry.key.run, entry.key.round, entry.key.attempt)
            for entry in chain.entries
            if entry.state is State.COMMITTED and entry.key.study == study
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

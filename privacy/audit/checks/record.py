"""The coordinator's own record of its runs, against everything that somebody has signed."""

# Why: docs/adr/0073-nothing-travels-along-unread.md

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from privacy.audit.checks.log_facts import names_by_id
from privacy.audit.evidence import Evidence, RunEvidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.audit.records import FINISHED


def check_record(evidence: Evidence) -> Iterator[AuditFailure]:
    """Each run's record is of the manifest's sites and rounds, and has every attempt once."""
    for number, run in evidence.runs.items():
        yield from _of_the_study(evidence, number, run)
        yield from _finished(evidence, number, run)
        if evidence.study.pools_noise:
            yield from _of_steps(evidence, number, run)


def _of_the_study(evidence: Evidence, number: int, run: RunEvidence) -> Iterator[AuditFailure]:
    """Whoever was refused may be a stranger: that is why. Nobody else may."""
    study = evidence.study
    names = {site.name for site in study.sites}
    order = [(one.round, one.attempt) for one in run.record.attempts]
    refusals, sites = list(run.record.refusals), [[*one.sites] for one in run.record.attempts]
    for what, sound in (
        ("attempts", order == sorted(order)),
        ("refusals", refusals == sorted(refusals)),
        ("sites of an attempt", all(names == sorted({*names}) for names in sites)),
    ):
        if not sound:
            words = f"The record's {what} stand out of order, or one of them twice."
            yield failure(Flaw.RECORD, words, run=number)
    rows = Counter(order)
    for (round, attempt), times in rows.items():
        where = ("", number, round, attempt)
        if times > 1:
            yield failure(Flaw.RECORD, f"The record has this attempt {times} times.", *where)
        if not (1 <= round <= study.rounds and 1 <= attempt <= study.attempts_a_round):
            words = "The record has an attempt that the manifest does not allow."
            yield failure(Flaw.RECORD, words, *where)
    told = {site for one in run.record.attempts for site in one.sites}
    for site in sorted(told - names):
        yield failure(Flaw.RECORD, "The record names a site that the study has not.", site, number)


def _finished(evidence: Evidence, number: int, run: RunEvidence) -> Iterator[AuditFailure]:
    opened = {one.round for one in run.record.attempts if one.opened}
    rounds = evidence.study.rounds
    if run.record.state == FINISHED and len(opened) < rounds:
        words = f"The record says that it finished, after {len(opened)} of {rounds} rounds."
        yield failure(Flaw.RECORD, words, run=number)


def _of_steps(evidence: Evidence, number: int, run: RunEvidence) -> Iterator[AuditFailure]:
    """The record names the steps that are here, no other, and every attempt that was asked for."""
    names = names_by_id(evidence)
    cohorts = {
        (one.step, one.attempt): {names.get(site, "") for site in one.cohort} for one in run.sums
    }
    for one in run.record.attempts:
        own = cohorts.get((one.round, one.attempt))
        if one.opened and own is not None and own != set(one.sites):
            words = "The record names other sites than the sum is of."
            yield failure(Flaw.RECORD, words, "", number, one.round, one.attempt)
    said = {(one.round, one.attempt) for one in run.record.attempts if one.opened}
    here = {(one.step, one.attempt) for one in run.sums}
    for step, attempt in sorted(said ^ here):
        what = "record" if (step, attempt) in here else "sum"
        words = f"An opened step has no {what}."
        yield failure(Flaw.RECORD, words, "", number, step, attempt)
    asked = {(one.step, one.attempt) for one in run.requests}
    told = {(one.round, one.attempt) for one in run.record.attempts}
    for step, attempt in sorted(asked - told - here):
        words = "The record lacks an attempt that the coordinator has asked for."
        yield failure(Flaw.RECORD, words, "", number, step, attempt)

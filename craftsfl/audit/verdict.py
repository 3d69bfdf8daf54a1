"""The verdict on a bundle: every check, one after the other, and what it comes to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from craftsfl.audit.champion import CheckedChampion, GivenChampion, check_champion
from craftsfl.audit.released import check_file, check_released
from craftsfl.audit.replay import (
    Replay,
    ReplayStart,
    check_logged_models,
    layout_of_bundle,
    replay,
)
from model.layout import Layout
from privacy.audit.archive import LARGEST_BUNDLE
from privacy.audit.checks.charges import (
    LabelledSteps,
    check_charges,
    check_not_empty,
    labelled_steps,
)
from privacy.audit.checks.costs import SiteCost, check_claims, check_costs
from privacy.audit.checks.generator import check_generators
from privacy.audit.checks.ledgers import check_ledgers
from privacy.audit.checks.log import LogReport, check_log, log_notes
from privacy.audit.checks.log_facts import logged_recipes
from privacy.audit.checks.membership import KnownDigests, check_membership_of
from privacy.audit.checks.notices import clock_notes, independence_notes, recovery_notes
from privacy.audit.checks.promotions import (
    check_promotions,
    promotion_notes,
    readers_of_promoted,
)
from privacy.audit.checks.record import check_record
from privacy.audit.checks.steps import check_closing, check_requests, end_notes, sessions_of
from privacy.audit.checks.sums import check_sums
from privacy.audit.checks.witnesses import few_witnesses
from privacy.audit.evidence import ADAPTER_FILE, Evidence, read_evidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.audit.promotions import LoggedPromotion, readers_facts
from privacy.audit.readers_result import SignedReaders
from privacy.errors import AccountingError, AuditError

MOST_FAILURES: Final = 1000  # that are kept; how many there are is counted


@dataclass
class Counts:
    """How much was checked."""

    records: int = 0
    charges: int = 0
    steps: int = 0
    sums: int = 0
    vectors_left_out: int = 0
    log_entries: int = 0


@dataclass
class AuditVerdict:
    """What became of a bundle. `evidence` None: nothing could be read.

    `not_recomputed`: what was not shown, in words; `notices`: what an auditor has to know besides.
    Neither is a failure.
    """

    digest: str  # SHA-256 of the bundle, hex
    evidence: Evidence | None = None
    costs: list[SiteCost] = field(default_factory=list)
    failures: list[AuditFailure] = field(default_factory=list)
    not_recomputed: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    promotions: list[LoggedPromotion] = field(default_factory=list)
    champion: CheckedChampion | None = None  # what was given as the champion
    readers: list[SignedReaders] = field(default_factory=list)  # that promotions rest on
    recipes: dict[int, str] = field(default_factory=dict)  # of runs, in words, as the log has them
    counts: Counts = field(default_factory=Counts)

    @property
    def passed(self) -> bool:
        """Whether everything holds."""
        return self.evidence is not None and not self.failures

    def values(self) -> dict[str, object]:
        """For JSON; infinite epsilons are null."""
        index = None if self.evidence is None else self.evidence.index
        return {
            "bundle": self.digest,
            "passed": self.passed,
            "consortium": None if index is None else index.consortium,
            "study": None if index is None else index.study,
            "run": None if index is None else index.run,
            "roster": None
            if self.evidence is None
            else self.evidence.study.secure_aggregation.roster,
            "sites": [_cost(cost) for cost in self.costs],
            "failures": [one.values() for one in self.failures[:MOST_FAILURES]],
            "failures_in_all": len(self.failures),
            "not_recomputed": self.not_recomputed,
            "notices": self.notices,
            "promotions": [one.facts() for one in self.promotions],
            "champion": None if self.champion is None else self.champion.values(),
            "readers": [readers_facts(one) for one in self.readers],
            "recipes": {str(run): words for run, words in self.recipes.items()},
            "checked": vars(self.counts),
        }


def read_bundle(path: Path) -> bytes:
    """The bytes of a bundle; `AuditError` for one that is too large, OSError as `open` has it."""
    with path.open("rb") as file:
        data = file.read(LARGEST_BUNDLE + 1)
    if len(data) > LARGEST_BUNDLE:
        raise AuditError(f"{path} has more than {LARGEST_BUNDLE} bytes.", "It is no bundle.")
    return data


def verify_bundle(
    data: bytes, expected: KnownDigests | None = None, champion: GivenChampion | None = None
) -> AuditVerdict:
    """Check everything that `data` says; never raises for what stands in it."""
    verdict = AuditVerdict(hashlib.sha256(data).hexdigest())
    evidence, verdict.failures = read_evidence(data)
    if evidence is None:
        return verdict
    verdict.evidence = evidence
    known = expected or KnownDigests()
    verdict.failures += check_membership_of(evidence, known)
    verdict.failures += check_ledgers(evidence)
    verdict.counts.records = sum(len(chain) for chain in evidence.ledgers.values())
    try:
        verdict.costs, found = check_costs(evidence)
        verdict.failures += (*found, *check_claims(evidence))
    except AccountingError as error:
        verdict.failures.append(failure(Flaw.EPSILON, error.message))
    verdict.counts.charges = sum(cost.charges for cost in verdict.costs)
    failures, verdict.notices = check_generators(evidence)
    verdict.failures += (*failures, *check_charges(evidence))
    verdict.failures += check_record(evidence)
    verdict.failures += check_not_empty(evidence)
    log = _check_log(evidence, verdict, None if champion is None else champion.digest)
    layout, found_faults = layout_of_bundle(evidence)
    verdict.failures += found_faults
    replays: dict[int, Replay] = {}
    if layout is not None and evidence.study.pools_noise:
        replays = _check_steps(evidence, verdict, layout, log)
    elif layout is not None:
        verdict.failures += check_file(evidence, layout)
    if not evidence.study.pools_noise:
        verdict.not_recomputed += _of_masked_rounds(evidence)
    verdict.failures += _same_file(evidence)
    shown = ""
    if champion is not None:
        checked, failures = check_champion(evidence, champion, verdict.promotions, layout, replays)
        verdict.champion, shown = checked, checked.digest if checked.recomputed else ""
        verdict.failures += failures
        if not (checked.recomputed or failures):
            verdict.not_recomputed.append(f"The champion that you were given: {checked.words}")
    verdict.not_recomputed += promotion_notes(evidence, verdict.promotions, shown)
    return verdict


def _check_log(evidence: Evidence, verdict: AuditVerdict, champion: str | None) -> LogReport:
    found = check_log(evidence)
    verdict.failures += found.failures
    verdict.notices += recovery_notes(evidence, found.replay)
    verdict.notices += clock_notes(evidence, found.replay)
    verdict.notices += independence_notes(evidence)
    rows, failures = check_promotions(evidence, found.replay, champion)
    verdict.promotions = [row.promotion for row in rows]
    verdict.readers = readers_of_promoted(evidence.study, rows)
    verdict.failures += failures
    if found.replay is not None:
        verdict.counts.log_entries = found.replay.size
        verdict.recipes = logged_recipes(evidence, found.replay)
        verdict.not_recomputed += log_notes(evidence, found.replay)
        verdict.not_recomputed += few_witnesses(evidence, found.shown)
    elif not found.failures:
        verdict.not_recomputed.append(
            "There is no log in it: nobody but the sites themselves, and what their peers saw at "
            "the start of each session, vouches for the newest records of a ledger."
        )
    return found


def _check_steps(
    evidence: Evidence, verdict: AuditVerdict, layout: Layout, log: LogReport
) -> dict[int, Replay]:
    """Check all runs; what each of them came to."""
    known = _Known(layout, ReplayStart.of(evidence.study, layout), labelled_steps(evidence), log)
    found = {number: _check_run(evidence, number, known, verdict) for number in evidence.runs}
    if ADAPTER_FILE not in evidence.files:
        verdict.not_recomputed.append("The released adapter is not in the bundle.")
    return found


@dataclass(frozen=True)
class _Known:
    """What is the same for all runs."""

    layout: Layout
    start: ReplayStart
    ledgers: LabelledSteps
    log: LogReport


def _check_run(evidence: Evidence, number: int, known: _Known, verdict: AuditVerdict) -> Replay:
    log = known.log
    try:
        sessions, found = sessions_of(evidence, number, known.start.digests)
    except AccountingError as error:
        verdict.failures.append(failure(Flaw.STUDY, error.message, run=number))
        return Replay()
    verdict.failures += found
    verdict.failures += check_requests(evidence, number, sessions)
    sums = check_sums(evidence, number, sessions, known.ledgers, log.shown)
    verdict.failures += sums.failures
    verdict.counts.sums += sums.recomputed
    if sums.left_out:
        verdict.not_recomputed.append(
            f"Run {number}: {len(sums.left_out)} opened sums; their masked vectors are not in the "
            "bundle, and named by their digests. What the sites cosigned with them is not either."
        )
    verdict.counts.vectors_left_out += len(sums.left_out)
    verdict.not_recomputed += (
        f"Run {number}, step {step}, attempt {attempt}: every site's vector is here and the "
        "coordinator opened no sum. It could have: the attempt is charged as one that was opened."
        for step, attempt in sums.unopened
    )
    again = replay(evidence, number, known.start)
    verdict.failures += again.failures
    verdict.counts.steps += again.steps
    if log.replay is not None:
        verdict.failures += check_logged_models(
            evidence, log.replay, number, known.start.digests, again
        )
    verdict.not_recomputed += end_notes(evidence, number)
    verdict.failures += check_closing(evidence.study, number, evidence.runs[number], sessions)
    if number == evidence.index.run:
        verdict.failures += check_released(evidence, known.layout, again)
    return again


def _same_file(evidence: Evidence) -> Iterator[AuditFailure]:
    number, data = evidence.index.run, evidence.files.get(ADAPTER_FILE)
    run = evidence.runs.get(number)
    said = "" if run is None else run.record.released
    if number and run is None:
        yield failure(Flaw.STEP_MISSING, "The run of its adapter is not in it.", run=number)
    if data is not None and hashlib.sha256(data).hexdigest() != said:
        yield failure(Flaw.ADAPTER, "The adapter is not the file that was released.", run=number)


def _of_masked_rounds(evidence: Evidence) -> Iterator[str]:
    yield (
        "Adapters: in a study of updates the coordinator keeps no sums, so that nothing shows how "
        "an adapter came from the one before it. Every epsilon holds all the same."
    )
    if ADAPTER_FILE in evidence.files:
        yield "The released adapter: its digest is compared, its numbers are not worked out."


def _cost(cost: SiteCost) -> dict[str, object]:
    return {
        "site": cost.site,
        "charges": cost.charges,
        "epsilon": finite_or_none(cost.study),
        "claimed": finite_or_none(cost.claimed),
        "budget": cost.budget,
        "lifetime": finite_or_none(cost.lifetime),
        "lifetime_claimed": finite_or_none(cost.lifetime_claimed),
        "lifetime_budget": cost.lifetime_budget,
        "lifetime_delta": cost.lifetime_delta,
        "against": {who.value: finite_or_none(value) for who, value in cost.against.items()},
    }


def finite_or_none(value: float) -> float | None:
    """For JSON, which has no infinity."""
    return value if math.isfinite(value) else None

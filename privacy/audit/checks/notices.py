"""What is no failure and yet to be known: ledgers that replace lost ones, clocks that went back."""

# Why: docs/adr/0078-a-failure-or-a-notice.md

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from privacy.audit.checks.membership import rosters_of
from privacy.audit.evidence import Evidence, RunEvidence
from privacy.audit.faults import listed_names
from privacy.ledger.anchors import INHERITED_RUN
from privacy.ledger.chain import Chain
from privacy.ledger.records import NO_LEDGER
from privacy.log.replay import LogReplay


def recovery_notes(evidence: Evidence, replay: LogReplay | None) -> Iterator[str]:
    """Ledgers that stand for lost ones: what those had charged is their sites' own word."""
    for name, chain in sorted(evidence.ledgers.items()):
        for bound in chain.bindings:
            lost = bound.replaced
            if lost == NO_LEDGER:
                continue
            own, others = _inherited(chain, evidence.study.digest())
            words = (
                f"{name}: its ledger stands for a lost one, {lost.ledger.hex()[:8]} of "
                f"{lost.length} records. It takes over {own} charges of this study and {others} of "
                "other studies. That these are all that the lost one had is the site's own word"
            )
            line = None if replay is None else replay.lines.get(lost.ledger)
            if line is None:
                yield f"{words}: no record of it is in the log."
            else:
                yield (
                    f"{words} but for this study's, which the log has up to record {len(line) - 1};"
                    f" {line.withheld} records of other studies are in it by their hashes alone."
                )


def clock_notes(evidence: Evidence, replay: LogReplay | None) -> Iterator[str]:
    """Clocks are set, so that a time which goes back proves nothing: it is said."""
    back = [name for name, chain in sorted(evidence.ledgers.items()) if chain.steps_back]
    if back:
        times = sum(evidence.ledgers[name].steps_back for name in back)
        yield (
            f"Times of records go back {times} times in the ledgers of {listed_names(back)}. Their "
            "order is that of the records, which hashes hold fast."
        )
    early = [name for name in sorted(evidence.ledgers) if _dated_back(evidence, name)]
    if early:
        yield (
            "The word on its budget is dated before the newest record that it is about, of "
            f"{listed_names(early)}."
        )
    if replay is not None and replay.steps_back:
        yield (
            f"Times of the log's entries go back {replay.steps_back} times. Their order is that of "
            "the log."
        )
    for number, run in evidence.runs.items():
        odd = _attempts_back(run)
        if odd:
            yield (
                f"Run {number}: {odd} attempts begin before the one before them, or end before "
                "they begin, by the coordinator's clock."
            )


def independence_notes(evidence: Evidence) -> Iterator[str]:
    """Auditors whose key is that of somebody whom they judge: their signature adds nothing."""
    study = evidence.study
    if study.auditors is None:
        return
    judged = {
        one.public_key.hex(): one.name for roster in rosters_of(evidence) for one in roster.members
    }
    if study.pooled is not None:
        judged[study.pooled.coordinator_key] = "the coordinator"
    for auditor in study.auditors.keys:
        if auditor.key in judged:
            yield (
                f"The key of the auditor {auditor.name} is that of {judged[auditor.key]}, whom "
                "auditors judge. Its signature adds nothing."
            )


def _inherited(chain: Chain, study: bytes) -> tuple[int, int]:
    """How many charges were taken over, of the study and of others."""
    found = [one.key.study == study for one in chain.entries if one.key.run == INHERITED_RUN]
    return sum(found), len(found) - sum(found)


def _dated_back(evidence: Evidence, name: str) -> bool:
    signed, chain = evidence.statements.get(name), evidence.ledgers[name]
    return signed is not None and signed.statement.time < chain.time // 1_000_000


def _attempts_back(run: RunEvidence) -> int:
    rows = sorted(run.record.attempts, key=lambda one: (one.round, one.attempt))
    ended = sum(one.finished is not None and one.finished < one.started for one in rows)
    return ended + _steps_back([one.started for one in rows])


def _steps_back(times: Sequence[float]) -> int:
    return sum(later < earlier for earlier, later in pairwise(times))

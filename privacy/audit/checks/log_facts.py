"""What the coordinator wrote into the log of its steps and refusals, against the bundle.

Nobody else has signed these entries, but every site has cosigned the log that holds them: what the
coordinator says later is held against what it said then.
"""

# Why: docs/adr/0073-nothing-travels-along-unread.md

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from privacy.audit.checks.charges import LabelledSteps, labelled_steps
from privacy.audit.evidence import Evidence
from privacy.audit.faults import MOST_WORDS, AuditFailure, Flaw, failure
from privacy.log.entries import EntryKind, LogFacts
from privacy.log.replay import LogReplay
from privacy.visible import visible
from privacy.wire.sealed import OpenedSum, SealedStep

_OF_RUNS: Final = frozenset(
    {EntryKind.STEP, EntryKind.REFUSAL, EntryKind.MODEL, EntryKind.RECIPE, EntryKind.PROMOTION}
)
_Key = tuple[int, int, int]  # run, step, attempt


def check_facts(evidence: Evidence, replay: LogReplay) -> Iterator[AuditFailure]:
    """Each opened sum is the one that the log names; the log names no other, and no other run."""
    yield from _runs(evidence, replay)
    logged, twice = _logged_steps(evidence, replay)
    for key in twice:
        words = "The log names two different sums of one attempt."
        yield failure(Flaw.LOG_RECORD, words, "", *key)
    newest = {key[:2]: key for key in logged}  # a sum that nobody took is followed by another one
    here, sent = _opened(evidence), _sent(evidence)
    for run, step in sorted(newest.keys() | here.keys()):
        last, found = newest.get((run, step)), here.get((run, step))
        if last is None or found is None:
            missing = "log" if last is None else "bundle"
            words = f"The {missing} lacks this step's sum."
            yield failure(Flaw.LOG_RECORD, words, "", run, step)
        else:
            yield from _compared(logged[last], (run, step), *found)
            yield from _vectors(sent, logged[last].get("vectors"), (run, step), found[0])
    yield from _refusals(evidence, replay)


def sums_taken_back(evidence: Evidence, replay: LogReplay) -> Iterator[str]:
    """Sums in the log that another attempt at the same step replaced, in words."""
    logged, _ = _logged_steps(evidence, replay)
    newest = {key[:2]: key for key in logged}
    for key in logged:
        if newest[key[:2]] != key:
            run, step, attempt = key
            yield (
                f"Run {run}, step {step}, attempt {attempt}: the log names its sum, and the "
                "coordinator took another attempt's. It is charged, and not in the bundle."
            )


def logged_recipes(evidence: Evidence, replay: LogReplay) -> dict[int, str]:
    """With which versions each run began, in words, as its coordinator logged them then."""
    found = {}
    for number in evidence.runs:
        begun: dict[str, None] = {}  # a coordinator may be upgraded while a run is under way
        for said in facts_of_run(evidence, replay, number, EntryKind.RECIPE):
            begun.setdefault(_versions(said))
        if begun:
            found[number] = visible("; then ".join(begun), most=MOST_WORDS)
    return found


def _versions(said: LogFacts) -> str:
    packages = said.get("packages")
    versions = {"craftsfl": said.get("release"), "Python": said.get("python")}
    versions |= packages if isinstance(packages, dict) else {}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def facts_of_run(
    evidence: Evidence, replay: LogReplay, number: int, kind: EntryKind
) -> list[LogFacts]:
    """What the log says of a run of the study, in order."""
    return replay.facts_about(kind, evidence.study.digest().hex(), number)


def _number(value: object) -> int:
    """A fact that has to be a whole number; -1, which none is, for anything else."""
    return value if type(value) is int else -1


def _runs(evidence: Evidence, replay: LogReplay) -> Iterator[AuditFailure]:
    study = evidence.study.digest().hex()
    named = {
        _number(said.get("run"))
        for kind, said in replay.facts
        if kind in _OF_RUNS and said.get("study") == study
    }
    for run in sorted(named - evidence.runs.keys()):
        yield failure(Flaw.LOG_RECORD, "The log has a run that the bundle lacks.", run=max(0, run))


def _logged_steps(evidence: Evidence, replay: LogReplay) -> tuple[dict[_Key, LogFacts], list[_Key]]:
    """What the log says of steps, in order; and the attempts of which it says two things."""
    study, logged, twice = evidence.study.digest().hex(), dict[_Key, LogFacts](), list[_Key]()
    for kind, said in replay.facts:
        if kind is not EntryKind.STEP or said.get("study") != study:
            continue
        key = tuple(_number(said.get(name)) for name in ("run", "step", "attempt"))
        run, step, attempt = key
        before = logged.pop((run, step, attempt), said)
        if before != said:
            twice.append((run, step, attempt))
        logged[run, step, attempt] = said
    return logged, twice


def _opened(evidence: Evidence) -> dict[tuple[int, int], tuple[OpenedSum, SealedStep | None]]:
    asked = {
        (number, one.label): one for number, run in evidence.runs.items() for one in run.requests
    }
    return {
        (number, one.step): (one, asked.get((number, one.label)))
        for number, run in evidence.runs.items()
        for one in run.sums
    }


def _compared(
    said: LogFacts,
    where: tuple[int, int],
    found: OpenedSum,
    asked: SealedStep | None,
) -> Iterator[AuditFailure]:
    own: LogFacts = {
        "session": found.session,
        "attempt": found.attempt,
        "label": found.label.hex(),
        "cohort": list(found.cohort),
        "opened": found.digest().hex(),
    }
    if asked is not None:
        own |= {"form": int(asked.form), "slot": asked.slot, "adapter": asked.adapter.hex()}
        own |= {"state": asked.state.hex(), "sums": asked.sums.hex()}
    other = sorted(name for name, value in own.items() if said.get(name) != value)
    if other:
        words = f"The log has another {', '.join(other)} of this step."
        yield failure(Flaw.LOG_RECORD, words, "", *where, found.attempt)


@dataclass(frozen=True, slots=True)
class _SentVectors:
    """The steps of each site's ledger by label, and the names of sites by id."""

    names: Mapping[int, str]
    ledgers: LabelledSteps

    def digest(self, site: int, label: bytes) -> str | None:
        """Of the vector that the site's ledger says was sent, in hex; None where it says none."""
        entry = self.ledgers.get(self.names.get(site, ""), {}).get(label)
        return None if entry is None or not entry.sent else entry.sent.hex()


def _sent(evidence: Evidence) -> _SentVectors:
    return _SentVectors(names_by_id(evidence), labelled_steps(evidence))


def names_by_id(evidence: Evidence) -> dict[int, str]:
    """The sites of all rosters by their ids, which no other site ever gets."""
    return {m.site: m.name for one in evidence.rosters for m in one.roster.members}


def _vectors(
    sent: _SentVectors, said: object, where: tuple[int, int], found: OpenedSum
) -> Iterator[AuditFailure]:
    """The digests of the vectors, as the log has them, are those of the sites' ledgers."""
    named: Mapping[object, object] = said if isinstance(said, dict) else {}
    if named.keys() != {str(site) for site in found.cohort}:
        words = "The log names vectors of other sites than are in this sum."
        yield failure(Flaw.LOG_RECORD, words, "", *where, found.attempt)
        return
    for site in found.cohort:
        digest = sent.digest(site, found.label)
        if digest is not None and named.get(str(site)) != digest:
            words = "The log names another vector than the site's ledger."
            name = sent.names.get(site, "")
            yield failure(Flaw.LOG_RECORD, words, name, *where, found.attempt)


def _refusals(evidence: Evidence, replay: LogReplay) -> Iterator[AuditFailure]:
    """Whoever dropped out of an attempt, as the log has it, is in the coordinator's record."""
    for number, run in evidence.runs.items():
        rows = {(one.round, one.attempt) for one in run.record.attempts}
        told = set(run.record.refusals)
        for said in facts_of_run(evidence, replay, number, EntryKind.REFUSAL):
            key = _number(said.get("step")), _number(said.get("attempt"))
            site, why = str(said.get("site")), str(said.get("reason"))
            if key not in rows or (site, why) not in told:
                words = "The log has a refusal that the record lacks."
                place = (max(0, one) for one in key)
                yield failure(Flaw.LOG_RECORD, words, site, number, *place)

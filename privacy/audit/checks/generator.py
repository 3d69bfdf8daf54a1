"""Each site's trials of its generator of noise: nothing was trained after one that failed.

A trial is the site's own word, and so is whether it passed. Its figures are judged again by the
rule of `discrete_gaussian.trial`: whoever calls a trial passed has to show figures that pass.
"""

# Why: docs/adr/0078-a-failure-or-a-notice.md

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from privacy.audit.evidence import Evidence
from privacy.audit.faults import AuditFailure, Flaw, failure, listed_names
from privacy.discrete_gaussian.trial import DRAWS, GeneratorTrial
from privacy.errors import AccountingError
from privacy.ledger import State
from privacy.ledger.anchors import INHERITED_RUN
from privacy.ledger.chain import Chain
from privacy.ledger.records import GeneratorTried
from privacy.ledger.story import LedgerTrial
from privacy.study.manifest import Study
from privacy.study.pooling import deviation_tried
from privacy.study.terms import event_of


@dataclass
class _Failed:
    """From a trial that failed to the next one that passes."""

    record: int
    why: str
    charged: int = 0  # of the study, in between


@dataclass
class _Trials:
    """What a ledger's trials come to."""

    failed: list[_Failed] = field(default_factory=list)
    untried: bool = False  # whether the study was charged before any trial
    deviations: set[int] = field(default_factory=set)  # of the trials that charges rest on


def trial_faults(said: GeneratorTried) -> list[str]:
    """Why a trial does not count, in words; empty for one that passed."""
    if said.draws < 2 * DRAWS:
        return [f"{said.draws} draws, of {2 * DRAWS}"]
    figures = (said.deviation, said.draws, said.known, said.variance, said.shared, said.fit)
    return GeneratorTrial(*figures).faults() or ([] if said.passed else ["its agent says so"])


def check_generators(evidence: Evidence) -> tuple[list[AuditFailure], list[str]]:
    """What does not hold, and, in words, what is no failure and yet to be known."""
    wanted = _deviation(evidence.study)
    if wanted is None:
        return [], []
    failures, notices = list[AuditFailure](), list[str]()
    untried, elsewhere = list[str](), list[str]()
    for site in evidence.study.sites:
        chain = evidence.ledgers.get(site.name)
        if chain is None:
            continue
        found = _trials(chain, evidence.study)
        for one in found.failed:
            words = f"The trial of its generator of noise failed (record {one.record}: {one.why})"
            if one.charged:
                more = f"{words}, and {one.charged} attempts were charged before one passed."
                failures.append(failure(Flaw.GENERATOR, more, site.name))
            else:
                notices.append(f"{site.name}: {words}. Nothing was charged before one passed.")
        untried += [site.name] * found.untried
        elsewhere += [site.name] * bool(found.deviations - {wanted})
    notices += _not_tried(untried, elsewhere, wanted)
    return failures, notices


def _not_tried(untried: list[str], elsewhere: list[str], wanted: int) -> Iterator[str]:
    if untried:
        yield (
            "No trial of the generator of noise comes before the study's first charge in the "
            f"ledger of {listed_names(untried)}. Agents make one at every start."
        )
    if elsewhere:
        yield (
            f"The generator of noise was tried at another deviation than {wanted / 2**16:g} grid "
            f"units, which the study draws at, by {listed_names(elsewhere)}."
        )


def _deviation(study: Study) -> int | None:
    """At which the generator has to be tried; None where no noise is drawn, or no terms are."""
    try:
        return None if event_of(study).no_privacy else deviation_tried(study)
    except AccountingError:
        return None  # said where the costs are worked out


def _trials(chain: Chain, study: Study) -> _Trials:
    own, found = study.digest(), _Trials()
    charges = [
        (entry.sequence, None)
        for entry in chain.entries
        if entry.state is State.COMMITTED
        and entry.key.study == own
        and entry.key.run != INHERITED_RUN
    ]
    trials = [(one.sequence, one) for one in chain.trials]
    newest: LedgerTrial | None = None
    bad: _Failed | None = None
    for sequence, trial in sorted((*trials, *charges), key=lambda row: row[0]):
        if trial is not None:
            newest, why = trial, "; ".join(trial_faults(trial.found))
            if why and bad is None:
                bad = _Failed(sequence, why)
                found.failed.append(bad)
            elif not why:
                bad = None
        elif newest is None:
            found.untried = True
        elif bad is None:
            found.deviations.add(newest.found.deviation)
        else:
            bad.charged += 1
    return found

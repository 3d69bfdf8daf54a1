"""What a version has to show before it is called champion: always, and because the study says so.

Pure: everything is in the `Candidate`. What else may be demanded one day becomes one more function
in `DEMANDS`; `promote` asks them all and names each.
"""

# Why: docs/adr/0053-champions-and-exports.md

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from privacy.audit.readers_demand import readers_answers
from privacy.audit.readers_result import SignedReaders
from privacy.audit.signoff import SignedVerdict, signed_off
from privacy.study.manifest import Study
from server.model_card import AdapterFacts
from server.status import QualityStatus, RunStatus
from server.tables import RunState


@dataclass(frozen=True, slots=True)
class Candidate:
    """A registered version with the run that released it.

    `adapter` is None where the released file is gone or was changed. `registered`: the SHA-256 in
    hex that MLflow has of it.
    """

    version: str
    study: Study
    status: RunStatus
    adapter: AdapterFacts | None
    registered: str
    verdicts: tuple[SignedVerdict, ...] = ()  # that were handed to the coordinator, unread
    readings: tuple[SignedReaders, ...] = ()  # likewise


@dataclass(frozen=True, slots=True)
class DemandAnswer:
    """One demand, in words: what it is, what was found, and what to do where it is not met."""

    what: str
    met: bool
    found: str
    cure: str


Demand: TypeAlias = Callable[[Candidate], Iterator[DemandAnswer]]


def demand_answers(
    candidate: Candidate, demands: tuple[Demand, ...] | None = None
) -> list[DemandAnswer]:
    """Every demand's answer, in order."""
    return [found for demand in demands or DEMANDS for found in demand(candidate)]


def _finished(candidate: Candidate) -> Iterator[DemandAnswer]:
    status = candidate.status
    yield DemandAnswer(
        "its run has finished",
        status.state is RunState.FINISHED,
        f"run {status.run} is {status.state}",
        "Only a run that has finished has an adapter of its whole study: craftsfl rounds "
        "start consortium.toml",
    )


def _unchanged(candidate: Candidate) -> Iterator[DemandAnswer]:
    facts = candidate.adapter
    same = facts is not None and facts.sha256 == candidate.registered
    found = "the file is gone or was changed" if facts is None else f"SHA-256 {facts.sha256[:16]}…"
    yield DemandAnswer(
        "its file is the one that was registered",
        same,
        found if same or facts is None else f"{found}, registered {candidate.registered[:16]}…",
        "Restore the file that the run released, and find out who changed it.",
    )


def _bounded(candidate: Candidate) -> Iterator[DemandAnswer]:
    wanted = candidate.study.promotion
    if wanted is None or wanted.epsilon is None:
        return
    origin = None if candidate.adapter is None else candidate.adapter.origin
    spent = None if origin is None else origin.epsilon
    yield DemandAnswer(
        f"epsilon is at most {wanted.epsilon:g}",
        spent is not None and spent <= wanted.epsilon,
        "the file claims none" if spent is None else f"epsilon {spent:.4g} at {_delta(candidate)}",
        "A study with more noise, or fewer rounds: craftsfl rounds plan",
    )


def _improved(candidate: Candidate) -> Iterator[DemandAnswer]:
    wanted = candidate.study.promotion
    for metric in () if wanted is None else wanted.improves:
        found = _last(candidate.status, metric)
        yield DemandAnswer(
            f"{metric} on public tiles is better than the base's",
            found is not None and _is_better(found),
            "no figure of the last round"
            if found is None
            else f"change {found.change:.4g} ({found.low:.4g} to {found.high:.4g})",
            "A figure of the last round needs [quality] in consortium.toml while the run is under "
            "way; where there is one, the adapter has not shown it.",
        )


def _confirmed(candidate: Candidate) -> Iterator[DemandAnswer]:
    """By one site at least where the noise is pooled: nothing else proves the last sum."""
    study = candidate.study
    if not study.pools_noise:
        return
    wanted = study.promotion.confirmations if study.promotion is not None else None
    least = wanted or 1
    sites = candidate.status.confirmed or ()
    yield DemandAnswer(
        f"{least} of {len(study.sites)} sites at least have worked out the same adapter",
        len(sites) >= least,
        ", ".join(sites) or "none has said so",
        "Ask the sites for the digest in their agents' logs; a new run asks them again.",
    )


def _signed_off(candidate: Candidate) -> Iterator[DemandAnswer]:
    wanted = candidate.study.auditors
    if wanted is None:
        return
    names = sorted(signed_off(candidate.study, candidate.registered, candidate.verdicts))
    yield DemandAnswer(
        f"{wanted.needed} of {len(wanted.keys)} auditors have verified a bundle with this adapter",
        len(names) >= wanted.needed,
        ", ".join(names) or "none has signed",
        "Give them a bundle (craftsfl audit export), and put what they sign (craftsfl audit sign) "
        "into the folder `verdicts` of the coordinator's state.",
    )


def _read(candidate: Candidate) -> Iterator[DemandAnswer]:
    promotion = candidate.study.promotion
    if promotion is None or promotion.readers is None:
        return
    of = candidate.registered, candidate.study.digest().hex()
    for what, met, found in readers_answers(promotion.readers, of, candidate.readings):
        yield DemandAnswer(
            what,
            met,
            found,
            "Have the pictures of this adapter judged (craftsfl model reader-study), have one of "
            "those in promotion.readers sign the result (score --sign), and put it into the folder "
            "`readers` of the coordinator's state.",
        )


DEMANDS: Final[tuple[Demand, ...]] = (
    *(_finished, _unchanged, _bounded, _improved, _confirmed),
    *(_signed_off, _read),
)


def _last(status: RunStatus, metric: str) -> QualityStatus | None:
    found = [item for item in status.quality if item.metric == metric]
    return next((item for item in found if item.round == status.rounds), None)


def _is_better(figure: QualityStatus) -> bool:
    """Of a loss, less is; of alignment, more."""
    return figure.high < 0 if figure.metric == "denoising" else figure.low > 0


def _delta(candidate: Candidate) -> str:
    return f"delta {candidate.study.privacy.delta:g}"

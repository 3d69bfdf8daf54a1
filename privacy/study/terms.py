"""What follows from a study alone: its mechanism, its event, its whole schedule."""

from __future__ import annotations

from typing import Final

from privacy.events import Event
from privacy.mechanisms.base import Mechanism, PublicTerms
from privacy.mechanisms.registry import mechanism_named
from privacy.study.manifest import Study

_MECHANISM: Final = "local"  # of every study; the manifest has no choice yet


def mechanism_of(study: Study) -> Mechanism:
    """How an attempt at a round of `study` is made private."""
    training = study.training
    terms = PublicTerms(
        sampling_rate=training.sampling_rate,
        noise_multiplier=training.noise_multiplier,
        clipping_norm=training.clipping_norm,
        steps=training.steps,
        attempts=study.rounds * study.privacy.attempts,
        delta=study.privacy.delta,
        smallest_cohort=study.smallest_cohort,
        noise_colluders=study.privacy.noise_colluders,
    )
    return mechanism_named(_MECHANISM).of(terms)


def event_of(study: Study) -> Event:
    """What one attempt at one round of `study` costs every site."""
    return mechanism_of(study).event


def whole_schedule(study: Study) -> tuple[Event, ...]:
    """All that `study` may ever charge a site for: rounds x attempts events."""
    return (event_of(study),) * (study.rounds * study.privacy.attempts)

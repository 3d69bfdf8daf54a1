"""What follows from a study alone: its mechanism, its event, its whole schedule."""

from __future__ import annotations

from privacy.events import Event
from privacy.mechanisms.base import Mechanism, PublicTerms
from privacy.mechanisms.registry import mechanism_named
from privacy.study.manifest import Study
from privacy.study.pooling import pooled_terms


def mechanism_of(study: Study) -> Mechanism:
    """How an attempt at a round of `study` is made private."""
    training = study.training
    terms = PublicTerms(
        sampling_rate=training.sampling_rate,
        noise_multiplier=training.noise_multiplier,
        clipping_norm=training.clipping_norm,
        steps=training.steps,
        attempts=study.most_attempts,
        delta=study.privacy.delta,
        smallest_cohort=study.smallest_cohort,
        noise_colluders=study.privacy.noise_colluders,
        pooled=pooled_terms(study) if study.pools_noise else None,
    )
    return mechanism_named(study.privacy.mechanism).of(terms)


def event_of(study: Study) -> Event:
    """What one attempt at one round of `study` costs every site."""
    return mechanism_of(study).event


def whole_schedule(study: Study) -> tuple[Event, ...]:
    """All that `study` may ever charge a site for."""
    return (event_of(study),) * study.most_attempts

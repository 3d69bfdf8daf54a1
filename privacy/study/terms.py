"""What follows from a study alone: its mechanism, its event, its whole schedule."""

from __future__ import annotations

from privacy.events import Event
from privacy.mechanisms.base import Mechanism, PublicTerms
from privacy.mechanisms.local import PoissonGaussian
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


def events_of(study: Study) -> frozenset[Event]:
    """As what attempts of `study` may stand in a ledger: now, and before noise was exact."""
    training = study.training
    if study.pools_noise:
        return frozenset({event_of(study)})
    before = PoissonGaussian(
        training.sampling_rate, training.noise_multiplier, training.clipping_norm, training.steps
    )
    return frozenset({event_of(study), before})


def whole_schedule(study: Study) -> tuple[Event, ...]:
    """All that `study` may ever charge a site for."""
    return (event_of(study),) * study.most_attempts

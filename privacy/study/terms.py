"""What follows from a study alone: its event, its whole schedule, the constants of a step."""

from __future__ import annotations

from privacy.dpsgd.release import Release
from privacy.events import Event, PoissonGaussian
from privacy.study.manifest import Study


def event_of(study: Study) -> Event:
    """What one attempt at one round of `study` costs every site."""
    training = study.training
    return PoissonGaussian(
        sampling_rate=training.sampling_rate,
        noise_multiplier=training.noise_multiplier,
        clipping_norm=training.clipping_norm,
        steps=training.steps,
    )


def whole_schedule(study: Study) -> tuple[Event, ...]:
    """All that `study` may ever charge a site for: rounds x attempts events."""
    return (event_of(study),) * (study.rounds * study.privacy.attempts)


def release_of(study: Study, declared_patients: int) -> Release:
    """The constants of every step at a site with `declared_patients`."""
    training = study.training
    return Release(
        clipping_norm=training.clipping_norm,
        noise_multiplier=training.noise_multiplier,
        denominator=training.sampling_rate * declared_patients,
    )

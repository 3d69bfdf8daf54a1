"""What a pooled study means for its steps: terms, grid, and what all sessions have in common.

Coordinator and sites derive it, each on its own, from the study, the roster in force and the
adapter's layout. Everything here is public.
"""

from __future__ import annotations

from typing import Final

from privacy.discrete_gaussian.trial import USUAL_DEVIATION
from privacy.errors import ConfigError
from privacy.mechanisms.pooled import PooledTerms
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.secagg.keys import digest
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.label import SealedStudy
from privacy.study.manifest import Study
from privacy.study.pooled import PooledSettings
from privacy.wire.codec import Writer

_TERMS: Final = b"pooled-terms"
_ROTATION: Final = b"pooled-rotation"


def pooled_settings(study: Study) -> PooledSettings:
    """The study's `[pooled]`; raises `ConfigError` for a study without it."""
    if study.pooled is None:
        raise ConfigError(
            f"The noise of the study {study.name} is not pooled.",
            'Set privacy.mechanism = "pooled" in study.toml, or serve it as a study of updates.',
        )
    return study.pooled


def pooled_terms(study: Study) -> PooledTerms:
    """The terms of the study's noise. Raises `AccountingError` for what makes no mechanism."""
    pooled, training = pooled_settings(study), study.training
    return PooledTerms(
        sites=len(study.sites),
        smallest_cohort=study.smallest_cohort,
        noise_colluders=study.privacy.noise_colluders,
        noise_multiplier=training.noise_multiplier,
        clipping_norm=training.clipping_norm,
        parameters=pooled.parameters,
        steps=study.rounds,
        spare_attempts=pooled.spare_attempts,
        patients=sum(site.declared_patients for site in study.sites),
        grid=pooled.grid,
    )


def grid_of(study: Study, cohort: int) -> PooledGrid:
    """The grid of a step of `cohort` sites; `AccountingError` for too few or too many."""
    return PooledGrid.of(pooled_terms(study), cohort, digest(_ROTATION, study.digest()))


def deviation_tried(study: Study) -> int:
    """At which deviation an agent tries its generator of noise, s in 2^-16 grid units.

    Its share with all sites there; the usual one where the trainer draws a site's whole noise.
    """
    return grid_of(study, len(study.sites)).deviation if study.pools_noise else USUAL_DEVIATION


def terms_digest(study: Study) -> bytes:
    """32 bytes that name every number of the noise, for each cohort that a step may have.

    They follow from the study; here so that two versions which derive others do not agree.
    """
    terms, grid = pooled_terms(study), grid_of(study, len(study.sites))
    numbers = Writer().u32(terms.sites).u32(terms.smallest_cohort).u32(terms.noise_colluders)
    numbers.f64(terms.noise_multiplier).f64(terms.clipping_norm).f64(terms.grid)
    numbers.u32(terms.parameters).u32(grid.padded).u32(grid.lanes)
    numbers.u32(terms.steps).u32(terms.spare_attempts).u64(terms.patients)
    numbers.u8(terms.centre_bits).u64(terms.centre_scale).u8(terms.bits)
    for cohort in range(terms.smallest_cohort, terms.sites + 1):
        numbers.u64(terms.deviation(cohort))
    mechanism = terms.event
    named = f"{mechanism.NAME} {mechanism.VERSION}".encode("ascii")
    return digest(_TERMS, named, numbers.done(), grid.seed)


def sealed_study(study: Study, roster: Roster, layout: bytes, frozen: bytes) -> SealedStudy:
    """What all sessions of `study` have in common; `layout` and `frozen` are digests, 32 bytes.

    Raises `AccountingError` or `SecAggError` for a study that cannot be served.
    """
    terms, pooled = pooled_terms(study), pooled_settings(study)
    return SealedStudy(
        study_digest=study.digest(),
        roster_digest=roster.digest(),
        terms_digest=terms_digest(study),
        base=bytes.fromhex(study.base.digest.removeprefix("sha256:")),
        layout=layout,
        frozen=frozen,
        lanes=grid_of(study, len(study.sites)).lanes,
        bits=terms.bits,
        steps=study.rounds,
        attempts=study.attempts_a_round,
        n_min=study.smallest_cohort,
        most_changes=most_changes(study),
        coordinator=bytes.fromhex(pooled.coordinator_key),
    )


def most_changes(study: Study) -> int:
    """How often the cohort may change from one attempt to the next, over the whole study.

    Every change lets the coordinator compare two sums that differ by few sites, behind their noise.
    A site may be out for a while and come back, so it is more than once for each spare attempt.
    """
    return 2 * pooled_settings(study).spare_attempts + 2

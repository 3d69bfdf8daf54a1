"""The noise of a plan: its size for the promise, and how it compares with what there is to learn.

Of the mean over N patients' clipped gradients, g C is signal (g: their coherence) and

    rho = kappa sigma sqrt(P) / (N sqrt(T))

is what is left of the noise, over C, in the mean of all T steps. g / rho is the signal-to-noise
ratio of a whole study. It depends on T through spare attempts alone: sigma grows with sqrt(T + A).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

from craftsfl.planning.request import PlanRequest
from privacy.accounting.across import GaussianFilter
from privacy.errors import AccountingError
from privacy.mechanisms.pooled import PooledTerms
from privacy.mechanisms.pooled.calibration import calibrated

PlanMode = Literal["pooled", "local", "alone"]

_MORE: Final = 1e-3
_TRIES: Final = 500
_ROUNDED: Final = 1e4  # a noise multiplier in a study file has four decimals, rounded up


@dataclass(frozen=True, slots=True)
class PlannedNoise:
    """The noise of one mode. `terms`: as every site would be charged.

    "pooled": shares of one noise; "local": every site adds all of its own to what it sends, and the
    sums are added; "alone": the largest site trains by itself.
    """

    mode: PlanMode
    terms: PooledTerms
    summed: int = 1  # sites whose whole noises are added up

    @property
    def sigma(self) -> float:
        """Noise multiplier of what a patient is charged for."""
        return self.terms.noise_multiplier

    @property
    def mu(self) -> float:
        """Gaussian privacy of the whole study, all attempts charged: sqrt(T + A) / sigma."""
        return math.sqrt(self.terms.most_charges) / self.sigma

    @property
    def of_a_sum(self) -> float:
        """Deviation of a number of the sum over `patients`, in units of C."""
        terms = self.terms
        if self.mode == "pooled":
            return self.sigma * math.sqrt(terms.sites / (terms.sites - terms.noise_colluders))
        return self.sigma * math.sqrt(self.summed)

    @property
    def patients(self) -> int:
        """Over whom the mean is taken."""
        return self.terms.patients

    @property
    def of_a_step(self) -> float:
        """Length of the noise in the mean that a step opens, over C."""
        return self.of_a_sum * math.sqrt(self.terms.parameters) / self.patients

    @property
    def rho(self) -> float:
        """The same of the mean over all steps."""
        return self.of_a_step / math.sqrt(self.terms.steps)


def planned_noise(asked: PlanRequest, mode: PlanMode, clipping_norm: float) -> PlannedNoise:
    """The least noise, to a thousandth, that keeps the plan's promise, all attempts charged.

    Also for a site whose filter over all its studies has no more than this to give, and which reads
    a little more off it. Raises `AccountingError` where no noise does.
    """
    try:
        found = calibrated(_terms(asked, mode, clipping_norm), asked.epsilon, asked.delta)
    except AccountingError:  # says what an accountant would do, not an operator
        raise _no_noise(asked) from None
    filtered = GaussianFilter(asked.epsilon, asked.delta)
    for number in range(_TRIES):
        sigma = math.ceil(found.noise_multiplier * (1 + number * _MORE) * _ROUNDED) / _ROUNDED
        terms = replace(found, noise_multiplier=sigma)
        if filtered.epsilon([terms.event.times(terms.most_charges)]) <= asked.epsilon:
            return PlannedNoise(mode, terms, len(asked.sites) if mode == "local" else 1)
    raise _no_noise(asked)


def _no_noise(asked: PlanRequest) -> AccountingError:
    return AccountingError(
        f"--epsilon {asked.epsilon:g}: no noise is known to keep that promise at delta "
        f"{asked.delta:g} in {asked.steps} steps, all attempts charged.",
        "Ask for a larger --epsilon, 1 to 8 are usual, or for fewer --steps.",
    )


def _terms(asked: PlanRequest, mode: PlanMode, clipping_norm: float) -> PooledTerms:
    together = mode == "pooled"
    return PooledTerms(
        sites=len(asked.sites) if together else 1,
        smallest_cohort=asked.min_sites if together else 1,
        noise_colluders=asked.colluders if together else 0,
        noise_multiplier=1.0,
        clipping_norm=clipping_norm,
        parameters=asked.parameters,
        steps=asked.steps,
        spare_attempts=asked.spare_attempts,
        patients=asked.largest_site if mode == "alone" else asked.patients,
    )

"""What a patient pays who is known to several sites of one study.

No site can see that, so the report states the figures for 2 and 3 sites on its first page.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from privacy.accounting.bounds import check_probability
from privacy.accounting.capacity import reserved
from privacy.accounting.composition import (
    LARGEST_EXPONENT,
    RUNNING,
    LossDistribution,
    epsilon_at,
    epsilon_of,
    grid_width,
    merge_events,
)
from privacy.accounting.nearness import nearness, stretched
from privacy.errors import AccountingError
from privacy.events import Event, GaussianSteps

_MAX_SITES: Final = 64

Mode: TypeAlias = Literal["local", "pooled"]
"""Whether each of the sums that hold the patient has noise of its own, or one sum holds all."""


def epsilon_known_to(
    sites: int, event: Event, delta: float, mode: Mode, *, discretization: float = RUNNING
) -> float:
    """Epsilon at `delta` of a patient whose data `sites` sites hold, each unaware of the others.

    Zero-out removes the patient from all of them. pooled: one noisy sum holds up to `sites`
    contributions, each drawn independently with q and clipped to C, so the step is a mixture of
    Gaussians with sensitivity j C, j ~ Binomial(sites, q) (Choquette-Choo, Ganesh, Steinke,
    Thakurta 2024, arXiv 2310.15526, Corollary 4.7: vectors are dominated by their norms). local:
    each site's steps carry their own noise, so the patient pays for all of them composed; the
    schedules are equal and frozen. Direction of the error: upwards. Raises `AccountingError` as
    `epsilon`, and for a number of sites outside 1 to 64.
    """
    check_probability(delta)
    if type(sites) is not int or not 1 <= sites <= _MAX_SITES:
        raise AccountingError(f"{sites!r} sites; it must be a whole number from 1 to {_MAX_SITES}.")
    if mode == "local":
        return epsilon_of(merge_events([event] * sites), delta, discretization, sites=sites)
    if mode != "pooled":
        raise AccountingError(f"Mode {mode!r} is unknown.", "Use 'local' or 'pooled'.")
    merged = merge_events([event])
    if len(merged) != 1:
        raise AccountingError(f"{type(event).__name__} cannot be summed over sites.")
    return _of_mixture(sites, merged[0], delta, discretization)


@lru_cache(maxsize=128)
def _of_mixture(sites: int, event: GaussianSteps, delta: float, discretization: float) -> float:
    composed = _mixture(sites, event, discretization)

    def gaussian(at: float) -> float:
        return epsilon_at(composed, at, event.steps)

    return stretched(gaussian, delta - reserved(delta), nearness([event]))


def _mixture(sites: int, event: GaussianSteps, discretization: float) -> LossDistribution:
    from dp_accounting.pld import privacy_loss_distribution as pld  # takes a second

    q, sigma, steps, *_ = event
    # j of the records are drawn, j ~ Binomial(sites, q), and shift the sum by up to j C.
    drawn = np.arange(sites + 1)
    chances = np.array([comb(sites, j) * q**j * (1 - q) ** (sites - j) for j in drawn.tolist()])
    shifts = drawn / sigma
    one = _largest_loss(shifts, chances)
    spread, deviation = _spread(shifts, chances, steps) + one, _deviation(shifts, chances)
    width = grid_width(discretization, spread, deviation, one)
    try:
        return pld.from_mixture_gaussian_mechanism(
            sigma,
            drawn.astype(float),
            chances / chances.sum(),
            value_discretization_interval=width,
        ).self_compose(steps)
    except OverflowError:
        raise AccountingError(
            f"{steps} steps at noise multiplier {sigma:g} cost more than can be computed.",
            "Raise the noise multiplier.",
        ) from None


def _spread(shifts: NDArray[np.float64], chances: NDArray[np.float64], steps: int) -> float:
    """Rough width of the composed loss; `shifts` are sensitivities over the noise."""
    mean = steps * np.dot(chances, shifts**2)
    square = steps * np.dot(chances, shifts**2 + shifts**4 / 4)
    return float(mean + 20 * np.sqrt(square))


def _deviation(shifts: NDArray[np.float64], chances: NDArray[np.float64]) -> float:
    """Root of a step's chi-square against none, where small: the deviation of its loss.

    Sum over j, k of p_j p_k (e^(shift_j shift_k) - 1).
    """
    excess = np.expm1(np.minimum(np.outer(shifts, shifts), LARGEST_EXPONENT))
    return float(np.sqrt(chances @ excess @ chances))


def _largest_loss(shifts: NDArray[np.float64], chances: NDArray[np.float64]) -> float:
    """The loss 10 standard deviations beyond the largest shift, where the library truncates it."""
    with np.errstate(divide="ignore"):  # a chance of 0 has a logarithm too
        terms = np.log(chances) + shifts * (shifts[-1] + 10) - shifts**2 / 2
    return float(np.logaddexp.reduce(terms))

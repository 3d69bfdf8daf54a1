"""From events to epsilon, by privacy loss distributions (Google's dp-accounting).

The estimate is pessimistic: discretisation rounds losses so that epsilon is never understated
(Doroshenko et al. 2022, "Connect the Dots", arXiv 2207.04380). Within one frozen schedule the
composition is exact up to that rounding. There is no default epsilon or delta anywhere.
"""

# Why: docs/adr/0007-accounting.md

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from privacy.accounting.bounds import check_probability
from privacy.accounting.capacity import reserved
from privacy.accounting.gaussian import gaussian_epsilon, gaussian_mu
from privacy.accounting.nearness import nearness, stretched
from privacy.errors import AccountingError
from privacy.events import MAX_STEPS, Event, GaussianSteps, check_events

RUNNING: Final = 1e-3  # discretisation of the privacy loss while a study runs
RELEASE: Final = 1e-4  # and for a figure that is published
MAX_COMPOSED_STEPS: Final = 10 * MAX_STEPS
# Where losses spread wider than this, the grid gets coarser in proportion. It stays pessimistic,
# and no study, however little noise it has, can keep the accountant busy for minutes.
_WIDE: Final = 1e3
# Rare draws: a step's loss is of the order of q, and a grid that is coarse by comparison adds its
# own width to the loss of every step. So the running grid is at most this share of one step's
# standard deviation (epsilon is then less than 1 % too high), but has at most this many points
# for one step, which take half a second. Both scale with the root of the discretization.
_FINE: Final = 0.3
_STEP_POINTS: Final = 1e5
# What rounding in the Fourier transforms may take from the mass of a tail, for each step. At most
# 1.9e-16 was observed against extended precision, on grids of 1e4 to 1e6 points.
_ROUNDING: Final = 5e-16
_FEW_STEPS: Final = 100  # a single transform rounds too
LARGEST_EXPONENT: Final = (
    500.0  # an exponent whose power, squared, is still a floating-point number
)

# One for each pair of sampling rate and noise multiplier, with all of its steps; sorted.
MergedSteps: TypeAlias = tuple[GaussianSteps, ...]
LossDistribution: TypeAlias = Any  # dp_accounting's PrivacyLossDistribution, which has no stubs


def epsilon(events: Iterable[Event], delta: float, *, discretization: float = RUNNING) -> float:
    """Epsilon at `delta` of all `events` composed; 0.0 for none.

    Composition assumes that the schedule was fixed before its first event. Direction of the
    error: upwards (Doroshenko et al. 2022; Koskela et al. 2020 for the convolution); rounding in
    the convolution counts against `delta`, so that a tiny one can be out of reach (inf), and so
    does what is reserved for draws beyond a step's capacity (`capacity`). `discretization` is the
    widest grid: it is finer where a step's loss is small, and coarser where losses are huge. Raises
    `AccountingError` for events without noise (say "no privacy" instead of a figure), for events
    of an unknown kind, and for a delta outside [1e-12, 1).
    """
    check_probability(delta)
    if not (isinstance(discretization, float) and 1e-6 <= discretization <= 1e-1):
        raise AccountingError(f"discretization is {discretization!r}; use 1e-6 to 0.1.")
    return epsilon_of(merge_events(events), delta, discretization)


def merge_events(events: Iterable[Event]) -> MergedSteps:
    """What `events` are charged as, equal steps added up: all that is composed passes here, once.

    Raises `AccountingError` for what has no finite epsilon, and for what is not an event.
    """
    known = list(events)
    check_events(known)
    charged: list[GaussianSteps] = []
    for event, count in Counter(known).items():
        if event.no_privacy:
            raise AccountingError(
                "A mechanism without noise has no finite epsilon.", "Report it as no privacy."
            )
        charged += [part._replace(steps=count * part.steps) for part in event.charged]
    return merge_steps(charged)


def merge_steps(charged: Iterable[GaussianSteps]) -> MergedSteps:
    """Equal steps added up. Raises `AccountingError` for more than can be composed."""
    counts: Counter[GaussianSteps] = Counter()
    for part in charged:
        counts[part._replace(steps=1)] += part.steps
    if sum(counts.values()) > MAX_COMPOSED_STEPS:
        raise AccountingError(f"More than {MAX_COMPOSED_STEPS} steps cannot be accounted for.")
    return tuple(sorted(one._replace(steps=count) for one, count in counts.items()))


def any_noiseless(events: Sequence[Event]) -> bool:
    """Whether any has no noise, so that epsilon is infinite; `AccountingError` for non-events."""
    check_events(events)
    return any(event.no_privacy for event in events)


@lru_cache(maxsize=4096)
def epsilon_of(
    merged: MergedSteps, delta: float, discretization: float, *, sites: int = 1
) -> float:
    """`epsilon` of merged events, cached. Direction of the error: upwards.

    `sites`: how many sites draw the patient, each of which may draw more than it has room for.
    """
    if not merged:
        return 0.0
    left = delta - sites * reserved(delta)
    return stretched(_of_gaussians(merged, discretization), left, nearness(merged))


def _of_gaussians(merged: MergedSteps, discretization: float) -> Callable[[float], float]:
    """Epsilon at any delta of the Gaussian steps themselves."""
    if in_closed_form(merged):
        mu = gaussian_mu(merged)
        return lambda delta: gaussian_epsilon(mu, delta)
    composed = loss_distribution(merged, discretization)
    steps = sum(part.steps for part in merged)
    return lambda delta: epsilon_at(composed, delta, steps)


def in_closed_form(merged: MergedSteps) -> bool:
    """Whether everybody is in every step, so that no loss distribution is needed.

    Steps of `poisson-gaussian`, which are near to nothing but themselves, are composed by loss
    distributions at a rate of 1 too: figures that were stated stay what they were, bit for bit.
    """
    return all(part.sampling_rate == 1 and part.factor > 0 for part in merged)


def forget() -> None:
    """Clear the caches: how long a figure takes then reveals nothing about earlier ones."""
    for remembered in (epsilon_of, loss_distribution, _one_step, gaussian_epsilon):
        remembered.cache_clear()


def epsilon_at(composed: LossDistribution, delta: float, steps: int) -> float:
    """Epsilon of a composition of `steps` steps at `delta`, less what rounding may have hidden.

    Infinite where `delta` is so small, or there are so many steps, that nothing of it is left.
    Direction of the error: upwards.
    """
    # delta(epsilon) is computed a little too low at most: ask for less, and epsilon errs upwards.
    left = delta - rounding(steps)
    return float(composed.get_epsilon_for_delta(left)) if left > 0 else math.inf


def rounding(steps: int) -> float:
    """How much too low floating point may make delta after `steps` steps; see `_ROUNDING`."""
    return _ROUNDING * (steps + _FEW_STEPS)


@lru_cache(maxsize=4)  # a distribution may hold up to 1e7 numbers
def loss_distribution(merged: MergedSteps, discretization: float) -> LossDistribution:
    """The composed privacy loss of at least one mechanism, in both directions of zero-out.

    Direction of the error: its hockey-stick divergences are never below the true ones.
    """
    one = max(_largest_loss(part.sampling_rate, part.noise_multiplier) for part in merged)
    width = grid_width(discretization, _spread(merged) + one, _deviation(merged), one)
    composed = None
    for part in merged:
        try:
            one_kind = _one_step(part.sampling_rate, part.noise_multiplier, width)
            one_kind = one_kind.self_compose(part.steps)
        except OverflowError:
            raise AccountingError(
                f"{part.steps} steps at noise multiplier {part.noise_multiplier:g} cost more than "
                "can be computed.",
                "Raise the noise multiplier.",
            ) from None
        composed = one_kind if composed is None else composed.compose(one_kind)
    return composed


@lru_cache(maxsize=16)
def _one_step(sampling_rate: float, noise_multiplier: float, width: float) -> LossDistribution:
    # Imported late: it takes a second, and the closed form and processes that only train need none.
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution as pld

    return pld.from_gaussian_mechanism(
        noise_multiplier,
        value_discretization_interval=width,
        sampling_prob=sampling_rate,
        neighboring_relation=NeighboringRelation.REPLACE_SPECIAL,  # zero-out
    )


def _spread(merged: MergedSteps) -> float:
    """Rough width of the composed privacy loss: twice a bound on its mean, and tails."""
    mean = square = 0.0
    for q, sigma, steps, *_ in merged:
        rare = 4 * chi_square(q, sigma)  # a fair guess for small ones; the others hold for any
        # Mean and variance of a step's loss add up over steps.
        mean += steps * min(q / sigma**2, rare)
        square += steps * min(q * (sigma**-2 + sigma**-4 / 4), rare)
    return mean + 20 * math.sqrt(square)  # 10 deviations on either side


def _largest_loss(q: float, sigma: float) -> float:
    """ln(1 - q + q e^a), a the loss of a Gaussian step 10 standard deviations out.

    The library truncates a step's loss there; the mass beyond, e^-50, counts as infinite loss.
    """
    full = sigma**-2 / 2 + 10 / sigma  # ln of the densities' ratio at 1 + 10 sigma
    # ln(1 - q + q e^x) = ln(1 + q (e^x - 1)), exact for small q; x itself bounds it for huge x.
    return full if full > LARGEST_EXPONENT else math.log1p(q * math.expm1(full))


def _deviation(merged: MergedSteps) -> float:
    """Standard deviation of one step's loss, the mean over all steps, for small losses."""
    squares = math.fsum(
        part.steps * chi_square(part.sampling_rate, part.noise_multiplier) for part in merged
    )
    # The mean over steps: one grid serves all of them.
    return math.sqrt(squares / sum(part.steps for part in merged))


def chi_square(q: float, sigma: float) -> float:
    """q^2 (e^(1 / sigma^2) - 1): chi-square of a step; the variance of its loss where small."""
    return q * q * math.expm1(min(sigma**-2, LARGEST_EXPONENT))


def grid_width(discretization: float, spread: float, deviation: float, largest: float) -> float:
    """Grid width for a composed loss `spread` wide; `deviation` and `largest` are of one step.

    It is `discretization`, less where a step's loss is small in comparison, more where losses
    spread beyond 1,000. Any width is pessimistic; at most 1,000 / `discretization` points cover
    the spread.
    """
    fine = math.sqrt(discretization / RUNNING) * max(_FINE * deviation, largest / _STEP_POINTS)
    return max(min(discretization, fine), discretization * spread / _WIDE)

"""Composition across studies, which may be chosen after seeing the results of earlier ones.

Exact composition by PLD needs a schedule that was fixed in advance; PLD has no filter theorem.
So across studies there are three ways, chosen by name in the site's policy before the first study.
All are filters: they promise the bound that was set in advance and is never exceeded, and a
reading along the way says how much of it is used. They also hold for interleaved studies (Haney et
al. 2023, arXiv 2309.05901: concurrent composition).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, Protocol, TypeAlias

from privacy.accounting.bounds import check_epsilon, check_probability
from privacy.accounting.capacity import OVERFLOW_SHARE
from privacy.accounting.composition import (
    LARGEST_EXPONENT,
    any_noiseless,
    epsilon,
    merge_events,
)
from privacy.accounting.gaussian import gaussian_epsilon, largest_mu
from privacy.errors import AccountingError
from privacy.events import Event, GaussianSteps

Composition: TypeAlias = Literal["sum", "rdp-filter", "gdp-filter"]
MIN_ORDER: Final = 2
MAX_ORDER: Final = 1024
# Share of a filter's delta for draws beyond the capacity in all studies. Each may use
# `OVERFLOW_SHARE` of its own delta, so the studies' deltas may add up to ten times the filter's.
FILTER_SHARE: Final = 10 * OVERFLOW_SHARE
# Share of a filter's delta for the distances of all samplers from what they should draw.
SAMPLER_SHARE: Final = 1e-3
# K of all events of a Gaussian filter, fixed in advance: that of some 50,000 steps.
GDP_FACTOR: Final = 5e-3


@dataclass(frozen=True, slots=True)
class Total:
    """What several studies cost together: (epsilon, delta)."""

    epsilon: float
    delta: float


def total_sum(studies: Mapping[bytes, Sequence[Event]], deltas: Mapping[bytes, float]) -> Total:
    """PLD within each study at its own delta, then the sum of the epsilons and of the deltas.

    Valid however the next study is chosen, as long as it is refused when either sum would exceed
    its bound (Rogers, Roth, Ullman, Vadhan 2016, arXiv 1605.08294: basic composition is a
    privacy filter). Direction of the error: upwards. Infinite epsilon if any event had no noise.
    Raises `AccountingError` if a study has no delta.
    """
    for study in studies:
        if study not in deltas:
            raise AccountingError(f"Study {study.hex()[:12]} has no delta.")
    used = [study for study, events in studies.items() if events]
    return Total(
        math.fsum(_within(studies[study], deltas[study]) for study in used),
        math.fsum(deltas[study] for study in used),
    )


def _within(events: Sequence[Event], delta: float) -> float:
    return math.inf if any_noiseless(events) else epsilon(events, delta)


class StudyFilter(Protocol):
    """What admits events of all studies while a bound that was set in advance holds.

    `load` of events adds up, whichever study they belong to, and is infinite for what the filter
    cannot compose; `epsilon` of events and of a `load` of others that are not passed in again.
    """

    def load(self, events: Iterable[Event]) -> float:
        """How much of the bound `events` use, in the filter's own unit."""
        ...

    def epsilon(self, events: Iterable[Event], elsewhere: float = 0.0) -> float:
        """How much of the budget is used, as an epsilon; the filter promises the budget alone."""
        ...


@dataclass(frozen=True, slots=True)
class RenyiFilter:
    """Renyi filter at one `order`, fixed in advance: admits events while `budget` holds.

    Feldman and Zrnic 2021 (arXiv 2008.11193), the Renyi privacy filter: whatever is chosen
    after seeing whatever. If the Renyi divergences of order alpha, each fixed before its event
    runs, never add up to more than a bound that was set in advance, the whole is Renyi private
    of that order and bound. It is then (`budget`, `delta`)-private by Canonne, Kamath, Steinke
    2020 (arXiv 2004.00010), Proposition 12. Direction of the error: upwards.

    Events that are only near to Gaussian steps (`privacy.accounting.nearness`): probabilities
    within e^±k, on both sides, add k (2 alpha - 1) / (alpha - 1) to the divergence. Distances
    add up to what `SAMPLER_SHARE` of delta pays for: each takes its share of the whole bound.

    `order` is a whole number from 2 to 1024. Choosing it after seeing what was spent would void
    the theorem. Raises `AccountingError` if the order leaves no room for any event at all.
    """

    order: int
    budget: float  # epsilon
    delta: float

    def __post_init__(self) -> None:
        _check_order(self.order)
        check_epsilon(self.budget)
        check_probability(self.delta)
        if self.budget <= _overhead(self.order, self.delta):
            raise AccountingError(
                f"At order {self.order} and delta {self.delta:g} nothing fits into epsilon "
                f"{self.budget:g}.",
                f"Use order {suggested_order(self.budget, self.delta)}.",
            )

    def epsilon(self, events: Iterable[Event], elsewhere: float = 0.0) -> float:
        """What `events` of all studies cost at this order; infinite if any had no noise.

        The filter promises `budget`; this is how much of it is used. 0.0 for no events.
        `elsewhere` is the `load` of further events, which are not passed in again.
        """
        divergence = elsewhere + self.load(events)
        return max(0.0, divergence + _overhead(self.order, self.delta)) if divergence else 0.0

    def load(self, events: Iterable[Event]) -> float:
        """See `StudyFilter.load`: the divergence."""
        return self.divergence(events)

    def divergence(self, events: Iterable[Event]) -> float:
        """Renyi divergence of `events` at this order; infinite if any had no noise."""
        known = list(events)
        if any_noiseless(known):
            return math.inf
        return math.fsum(part.steps * self._divergence(part) for part in merge_events(known))

    def _divergence(self, part: GaussianSteps) -> float:
        """Of one step, with what it costs that it is only near to a Gaussian one."""
        order = self.order
        exact = renyi(order, part.sampling_rate, part.noise_multiplier)
        if part.factor == part.distance == part.beyond == 0:
            return exact
        near = part.factor * (2 * order - 1) / (order - 1)
        bound = self.budget - _overhead(order, self.delta)
        return exact + near + bound * _of_samplers_share(part, self.budget, self.delta)

    def admits(self, events: Iterable[Event]) -> bool:
        """True if `events`, those that were run and the next one, stay within the budget."""
        return self.epsilon(events) <= self.budget


@dataclass(frozen=True, slots=True)
class GaussianFilter:
    """Filter of full-batch Gaussian steps: admits events while the squares of their mu hold.

    Smith and Thakurta 2022 (arXiv 2210.17520): whatever is chosen after seeing whatever, if the
    squares of the mu of Gaussian mechanisms never add up to more than B^2, set in advance, the
    whole is B-Gaussian private; no loss against a schedule that was fixed. With steps that
    are only near to Gaussian ones, the sum of their K must not exceed `GDP_FACTOR`, and that of
    their distances not what `SAMPLER_SHARE` of delta pays for. B is then the largest for which
    (`budget`, `delta`) holds with all of both used up.

    The load of events is the share that they use of B^2, plus that of the two other bounds: while
    it is at most 1, none of the three is exceeded. Events that draw some of the patients have no
    load here: infinite. Direction of the error: upwards. Raises `AccountingError` if the budget
    leaves no room.
    """

    budget: float  # epsilon
    delta: float

    def __post_init__(self) -> None:
        check_epsilon(self.budget)
        check_probability(self.delta)
        if self.budget <= 2 * GDP_FACTOR:
            raise AccountingError(
                f"Nothing fits into epsilon {self.budget:g} of a Gaussian filter.",
                f"Use more than {2 * GDP_FACTOR:g}.",
            )

    def load(self, events: Iterable[Event]) -> float:
        """See `StudyFilter.load`; infinite too if any had no noise."""
        known = list(events)
        if any_noiseless(known):
            return math.inf
        return math.fsum(part.steps * self._load(part) for part in merge_events(known))

    def epsilon(self, events: Iterable[Event], elsewhere: float = 0.0) -> float:
        """See `StudyFilter.epsilon`; 0.0 for no events."""
        used = elsewhere + self.load(events)
        if not used or math.isinf(used):
            return used
        return gaussian_epsilon(self._most * math.sqrt(used), self._left) + 2 * GDP_FACTOR

    def admits(self, events: Iterable[Event]) -> bool:
        """True if `events`, those that were run and the next one, stay within the bound."""
        return self.load(events) <= 1

    @property
    def _most(self) -> float:
        """B."""
        return _largest_mu(self.budget - 2 * GDP_FACTOR, self._left)

    @property
    def _left(self) -> float:
        """Nobody is drawn, so no draw overflows: all of delta but the samplers' share, over e^K."""
        return self.delta * (1 - SAMPLER_SHARE) * math.exp(-GDP_FACTOR)

    def _load(self, part: GaussianSteps) -> float:
        if part.sampling_rate < 1:
            return math.inf
        squared = (part.noise_multiplier * self._most) ** -2
        near = part.factor / GDP_FACTOR
        return squared + near + _of_samplers_share(part, self.budget, self.delta)


@lru_cache(maxsize=64)
def _largest_mu(epsilon: float, delta: float) -> float:
    return largest_mu(epsilon, delta)


def _of_samplers_share(part: GaussianSteps, budget: float, delta: float) -> float:
    """How much of `SAMPLER_SHARE` of `delta` one step's distance takes, on both sides."""
    taken = part.beyond
    if part.distance:
        both = 1 + math.exp(budget) if budget < LARGEST_EXPONENT else math.inf
        taken += part.distance * both
    return taken / (SAMPLER_SHARE * delta)


def suggested_order(budget: float, delta: float) -> int:
    """The order at which `budget` holds most noise-dominated steps; public, so fixed in advance.

    The Renyi divergence of a Gaussian grows in proportion to the order, so this maximises what the
    budget leaves for divergence, over the order. A choice, not a bound: any order is valid.
    """
    check_epsilon(budget)
    check_probability(delta)
    orders = range(MIN_ORDER, MAX_ORDER + 1)
    return max(orders, key=lambda order: (budget - _overhead(order, delta)) / order)


@lru_cache(maxsize=1024)
def renyi(order: int, sampling_rate: float, noise_multiplier: float) -> float:
    """Renyi divergence of one Poisson-subsampled Gaussian step, exact for whole orders.

    Mironov, Talwar, Zhang 2019 (arXiv 1908.10530), section 3, for removal, which they prove to
    be the worse of the two directions: ln(A) / (order - 1), A = sum over k of C(order, k)
    (1-q)^(order-k) q^k exp((k^2 - k) / (2 sigma^2)). The terms k = 0 and 1 have exponent 0, so
    A - 1 is the sum from k = 2 with exp(x) - 1 for exp(x): nothing cancels, however small q is.
    Direction of the error: none; only rounding in floating point.
    """
    if sampling_rate == 1:  # no sampling: the Gaussian's own, order / (2 sigma^2)
        return order / (2 * noise_multiplier**2)
    log_q, log_rest = math.log(sampling_rate), math.log1p(-sampling_rate)
    terms = []
    for k in range(2, order + 1):
        # ln of C(order, k) q^k (1-q)^(order-k) (e^exponent - 1): the factors themselves leave the
        # floating-point numbers in both directions.
        exponent = k * (k - 1) / (2 * noise_multiplier**2)
        choose = math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
        # ln(e^x - 1) = x + ln(1 - e^-x): neither overflows for large x nor cancels for small.
        log_expm1 = exponent + math.log(-math.expm1(-exponent))
        terms.append(choose + k * log_q + (order - k) * log_rest + log_expm1)
    top = max(terms)  # taken out of the sum, so that its largest summand is 1
    log_excess = top + math.log(math.fsum(math.exp(term - top) for term in terms))
    # ln(1 + e^x) without overflow
    log_a = max(log_excess, 0.0) + math.log1p(math.exp(-abs(log_excess)))
    # From the moment A to the divergence: ln(A) / (order - 1).
    return log_a / (order - 1)


def _overhead(order: int, delta: float) -> float:
    """epsilon - divergence at `order` (Canonne, Kamath, Steinke 2020, Proposition 12).

    At what the overflows and samplers of all filtered studies leave of `delta`.
    """
    left = delta * (1 - FILTER_SHARE - SAMPLER_SHARE)
    return math.log1p(-1 / order) - (math.log(left) + math.log(order)) / (order - 1)


def _check_order(order: int) -> None:
    if type(order) is not int or not MIN_ORDER <= order <= MAX_ORDER:
        raise AccountingError(
            f"The Renyi order is {order!r}; it must be a whole number from {MIN_ORDER} to "
            f"{MAX_ORDER}.",
            "privacy.accounting.suggested_order returns one for a budget.",
        )

"""Composition across studies, which may be chosen after seeing the results of earlier ones.

Exact composition by PLD needs a schedule that was fixed in advance; PLD has no filter theorem.
So across studies there are two ways, chosen by name in the site's policy before the first study.
Both are filters: they promise the bound that was set in advance and is never exceeded, and a
reading along the way says how much of it is used. They also hold for interleaved studies (Haney et
al. 2023, arXiv 2309.05901: concurrent composition).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

from privacy.accounting.bounds import check_epsilon, check_probability
from privacy.accounting.capacity import OVERFLOW_SHARE
from privacy.accounting.composition import any_noiseless, epsilon, merge_events
from privacy.errors import AccountingError
from privacy.events import Event

Composition: TypeAlias = Literal["sum", "rdp-filter"]
MIN_ORDER: Final = 2
MAX_ORDER: Final = 1024
# Share of a filter's delta for draws beyond the capacity in all studies. Each may use
# `OVERFLOW_SHARE` of its own delta, so the studies' deltas may add up to ten times the filter's.
FILTER_SHARE: Final = 10 * OVERFLOW_SHARE


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


@dataclass(frozen=True, slots=True)
class RenyiFilter:
    """Renyi filter at one `order`, fixed in advance: admits events while `budget` holds.

    Feldman and Zrnic 2021 (arXiv 2008.11193), the Renyi privacy filter: whatever is chosen
    after seeing whatever. If the Renyi divergences of order alpha, each fixed before its event
    runs, never add up to more than a bound that was set in advance, the whole is Renyi private
    of that order and bound. It is then (`budget`, `delta`)-private by Canonne, Kamath, Steinke
    2020 (arXiv 2004.00010), Proposition 12. Direction of the error: upwards.

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
        `elsewhere` is the `divergence` of further events, which are not passed in again.
        """
        divergence = elsewhere + self.divergence(events)
        return max(0.0, divergence + _overhead(self.order, self.delta)) if divergence else 0.0

    def divergence(self, events: Iterable[Event]) -> float:
        """Renyi divergence of `events` at this order; infinite if any had no noise."""
        known = list(events)
        if any_noiseless(known):
            return math.inf
        return math.fsum(n * renyi(self.order, q, sigma) for q, sigma, n in merge_events(known))

    def admits(self, events: Iterable[Event]) -> bool:
        """True if `events`, those that were run and the next one, stay within the budget."""
        return self.epsilon(events) <= self.budget


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

    At what the overflows of all filtered studies leave of `delta`.
    """
    left = delta * (1 - FILTER_SHARE)
    return math.log1p(-1 / order) - (math.log(left) + math.log(order)) / (order - 1)


def _check_order(order: int) -> None:
    if type(order) is not int or not MIN_ORDER <= order <= MAX_ORDER:
        raise AccountingError(
            f"The Renyi order is {order!r}; it must be a whole number from {MIN_ORDER} to "
            f"{MAX_ORDER}.",
            "privacy.accounting.suggested_order returns one for a budget.",
        )

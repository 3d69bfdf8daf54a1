"""The same guarantee as an attacker's error rates, for people to whom epsilon means little.

Consider an attacker who sees everything that was released, knows every other patient, and wants to
know whether one particular patient took part. If they wrongly accuse at most a share of
`false_positive_rate` of those who did not, they recognise at most `true_positive_rate` of those who
did.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from privacy.accounting.bounds import check_probability, largest_delta
from privacy.accounting.capacity import reserved
from privacy.accounting.composition import RUNNING, loss_distribution, merge_events, rounding
from privacy.accounting.nearness import nearness, stretched_deltas
from privacy.errors import AccountingError
from privacy.events import Event

_SMALLEST_RATE: Final = 1e-9
# What draws beyond a step's capacity may add, at the largest delta that a study may have.
_OVERFLOW: Final = reserved(largest_delta(1))


@dataclass(frozen=True, slots=True)
class Attack:
    """The best any attacker can do: `tpr` is an upper bound at the given `fpr`."""

    fpr: float
    tpr: float


def tradeoff(
    events: Iterable[Event],
    false_positive_rates: Sequence[float],
    *,
    discretization: float = RUNNING,
) -> list[Attack]:
    """Largest true-positive rate at each false-positive rate, for one frozen schedule.

    From the composed privacy loss distribution: for every e >= 0, with d = delta(e),
    TPR <= e^e FPR + d and TPR <= 1 - e^-e (1 - d - FPR) (Wasserman, Zhou 2010; Kairouz, Oh,
    Viswanath 2015, arXiv 1311.0776); all such pairs together are the trade-off function (Dong,
    Roth, Su 2022, arXiv 1905.02383, Propositions 2.4 and 2.12). Direction of the error: upwards,
    the attacker is never understated, because delta(e) is not and the minimum is taken over a
    grid. No events: TPR = FPR. Raises `AccountingError` as `epsilon` does, and for rates outside
    [1e-9, 1].
    """
    rates = _checked(false_positive_rates)
    merged = merge_events(events)
    if not merged or not rates:
        return [Attack(rate, rate) for rate in rates]
    # Beyond e = ln(1/FPR) the first bound is above 1; the second is tight well before.
    epsilons = np.arange(0.0, max(math.log(1 / min(rates)), 1.0) + discretization, discretization)
    losses = loss_distribution(merged, discretization)
    slack = rounding(sum(part.steps for part in merged)) + _OVERFLOW
    near = nearness(merged)
    found = stretched_deltas(epsilons, losses.get_delta_for_epsilon(epsilons) + slack, near)
    points = found[0], np.clip(found[1], 0.0, 1.0)
    return [Attack(rate, _best(*points, rate)) for rate in rates]


def true_positive_rate(events: Iterable[Event], false_positive_rate: float) -> float:
    """`tradeoff` at one rate; it errs upwards too."""
    return tradeoff(events, [false_positive_rate])[0].tpr


def tradeoff_at(
    epsilon: float, delta: float, false_positive_rates: Sequence[float]
) -> list[Attack]:
    """The same from one pair (epsilon, delta) alone: for sums over several studies.

    Exact for a mechanism about which only this pair is known (Kairouz, Oh, Viswanath 2015), and so
    looser than `tradeoff` for any real one. Infinite epsilon: TPR = 1.
    """
    if not (isinstance(epsilon, (int, float)) and epsilon >= 0):
        raise AccountingError(f"epsilon is {epsilon!r}; it must be 0 or more.")
    check_probability(delta)
    rates = _checked(false_positive_rates)
    if epsilon > 700:  # e^epsilon would overflow; the bound has long been 1
        return [Attack(rate, 1.0) for rate in rates]
    point = np.array([float(epsilon)]), np.array([delta])
    return [Attack(rate, _best(*point, rate)) for rate in rates]


def _best(epsilons: np.ndarray, deltas: np.ndarray, rate: float) -> float:
    """The smallest bound that the pairs (epsilons[i], deltas[i]) imply at `rate`."""
    # Both sides of (epsilon, delta): the outputs that accuse, and those that acquit.
    low = np.exp(epsilons) * rate + deltas
    high = 1 - np.exp(-epsilons) * (1 - deltas - rate)
    return float(min(1.0, low.min(), high.min()))


def _checked(rates: Sequence[float]) -> list[float]:
    for rate in rates:
        real = isinstance(rate, (int, float)) and not isinstance(rate, bool)
        if not (real and _SMALLEST_RATE <= rate <= 1):
            raise AccountingError(
                f"The false-positive rate is {rate!r}; it must lie between 1e-9 and 1."
            )
    return [float(rate) for rate in rates]

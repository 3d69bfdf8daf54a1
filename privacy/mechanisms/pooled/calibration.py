"""From epsilon to pooled noise: the least sigma that keeps T + A steps within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from privacy.accounting.bounds import check_epsilon, check_probability
from privacy.accounting.calibration import least_noise
from privacy.accounting.observers import epsilon_for
from privacy.events import ALWAYS_CHARGED, Observer
from privacy.mechanisms.pooled.terms import PooledTerms

_TOLERANCE: Final = 1e-5  # relative; a closed form is cheap


def calibrated(
    terms: PooledTerms,
    epsilon: float,
    delta: float,
    observers: Sequence[Observer] = ALWAYS_CHARGED,
) -> PooledTerms:
    """`terms` with the least `noise_multiplier` whose whole schedule costs at most `epsilon`.

    All T + A attempts, each charged, against the worst of `observers` (at least those who are
    always charged), with everything that discrete noise costs. Rounded up, to 1e-5. The value of
    `noise_multiplier` in `terms` does not matter. Raises `AccountingError` if no noise is enough.
    """
    check_epsilon(epsilon)
    check_probability(delta)

    charged = dict.fromkeys((*ALWAYS_CHARGED, *observers))

    def enough(sigma: float) -> bool:
        whole = replace(terms, noise_multiplier=sigma).event.times(terms.most_charges)
        return all(epsilon_for(who, [whole], delta) <= epsilon for who in charged)

    return replace(terms, noise_multiplier=least_noise(enough, _TOLERANCE))

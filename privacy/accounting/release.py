"""A figure that is published: two accountants have to agree on it, or nothing is released."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from privacy.accounting.bounds import check_probability
from privacy.accounting.composition import RELEASE, Mechanisms, epsilon_of, merge
from privacy.accounting.second import prv_epsilon
from privacy.errors import AccountingError
from privacy.events import Event

# Seen between the two: at most 6e-4 for schedules with q >= 0.01 and epsilon up to 72.
ABSOLUTE_TOLERANCE: Final = 5e-3
RELATIVE_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Released:
    """`epsilon` by PLD, never below the true one; `second` is the PRV estimate of the same.

    They differ by at most `tolerance`.
    """

    epsilon: float
    second: float
    tolerance: float


def released_epsilon(events: Iterable[Event], delta: float) -> Released:
    """Epsilon at `delta` of one frozen schedule, on a finer grid, confirmed by a second accountant.

    Direction of the error: upwards (see `epsilon`). The two agree if the first is no lower than
    the second's lower bound and no higher than its estimate plus 0.005 + 0.1 %. Where the first
    is higher than that, it is computed once more on a grid ten times as fine: small sampling
    rates with many steps need it. Raises `AccountingError` if they disagree, and as both do.
    """
    check_probability(delta)
    known = list(events)
    low, second, _ = prv_epsilon(known, delta)
    tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * second
    first = _first(merge(known), delta, second + tolerance)
    if not low <= first <= second + tolerance:
        raise AccountingError(
            f"Two accountants disagree: {first:.4f} and {second:.4f}, more than "
            f"{tolerance:.4f} apart. No figure is released.",
            "Keep the ledger and report this schedule; do not publish either figure.",
        )
    return Released(first, second, tolerance)


def _first(mechanisms: Mechanisms, delta: float, expected: float) -> float:
    coarse = epsilon_of(mechanisms, delta, RELEASE)
    return coarse if coarse <= expected else epsilon_of(mechanisms, delta, RELEASE / 10)

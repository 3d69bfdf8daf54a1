"""A figure that is published: two accountants have to agree on it, or nothing is released."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from privacy.accounting.bounds import check_probability
from privacy.accounting.capacity import reserved
from privacy.accounting.composition import (
    RELEASE,
    RUNNING,
    MergedSteps,
    epsilon_of,
    loss_distribution,
    merge_events,
    rounding,
)
from privacy.accounting.second import prv_epsilon
from privacy.errors import AccountingError
from privacy.events import Event

# Seen between the two: at most 6e-4 for schedules with q >= 0.01 and epsilon up to 72.
ABSOLUTE_TOLERANCE: Final = 5e-3
RELATIVE_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Released:
    """`epsilon` by PLD, never below the true one, with all allowances; what is published.

    `first` is the same without the allowance for rounding in the convolution (nothing that shows,
    but for a delta near 1e-12), and `second` the PRV estimate of that at the same delta: the two
    are compared, and differ by at most `tolerance`.
    """

    epsilon: float
    first: float
    second: float
    tolerance: float


def released_epsilon(events: Iterable[Event], delta: float) -> Released:
    """Epsilon at `delta` of one frozen schedule, on a finer grid, confirmed by a second accountant.

    Direction of the error: upwards (see `epsilon`). The two agree if the first, at the delta of the
    second, is no lower than its lower bound and no higher than its estimate plus 0.005 + 0.1 %,
    beside what rounding may do at that delta. Where the first is higher than that, it is computed
    once more on a grid ten times as fine.
    Raises `AccountingError` if they disagree, if delta is too small for so many steps, and as both
    accountants do.
    """
    return _agreed(list(events), delta, (RELEASE, RELEASE / 10))


def check_releasable(events: Iterable[Event], delta: float) -> None:
    """Raise `AccountingError` for a schedule of which `released_epsilon` would release no figure.

    To be asked before a study begins, of all its rounds and attempts: what cannot be said at the
    end should not be spent. Quicker than the release: the coarser grid is enough where it agrees
    already, for a finer one only comes closer. Without noise there is no figure, and no fault.
    """
    known = list(events)
    if not any(event.no_privacy for event in known):
        _agreed(known, delta, (RUNNING, RELEASE, RELEASE / 10))


def _agreed(events: list[Event], delta: float, grids: tuple[float, ...]) -> Released:
    check_probability(delta)
    mechanisms = merge_events(events)
    if not mechanisms:
        return Released(0.0, 0.0, 0.0, ABSOLUTE_TOLERANCE)
    check_within_reach(mechanisms, delta)
    low, second, _ = prv_epsilon(events, delta)
    for grid in grids:
        first, figure = _estimate(mechanisms, delta, grid), epsilon_of(mechanisms, delta, grid)
        rounded = figure - first  # so much may rounding do to either accountant
        tolerance = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * second + rounded
        if first < low - rounded or math.isinf(figure):
            break  # a finer grid would only lower it
        if first <= second + tolerance:
            return Released(figure, first, second, tolerance)
    raise AccountingError(
        f"Two accountants disagree: {first:.4f} and {second:.4f}, more than {tolerance:.4f} apart. "
        "No figure is released.",
        "Keep the ledger and report this schedule; do not publish either figure.",
    )


def _estimate(mechanisms: MergedSteps, delta: float, grid: float) -> float:
    """Epsilon where the second accountant reads it: without an allowance for rounding."""
    return float(loss_distribution(mechanisms, grid).get_epsilon_for_delta(delta - reserved(delta)))


def check_within_reach(mechanisms: MergedSteps, delta: float) -> None:
    """Raise `AccountingError` where rounding leaves nothing of `delta` to read epsilon at."""
    steps = sum(count for _, _, count in mechanisms)
    least = rounding(steps)
    if delta - reserved(delta) <= least:
        raise AccountingError(
            f"delta is {delta:g}, too small for {steps} steps: rounding in their composition may "
            f"take {least:.2g} of it, and no finite epsilon can be told.",
            f"Use a delta well above {math.ceil(least * 1e13) / 1e13:.2g}, or fewer steps.",
        )

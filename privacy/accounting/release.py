"""Figures for publication: two accountants have to agree, or nothing is released."""

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
    in_closed_form,
    loss_distribution,
    merge_events,
    rounding,
)
from privacy.accounting.nearness import nearness, stretched
from privacy.accounting.second import prv_epsilon
from privacy.errors import AccountingError
from privacy.events import Event

# Observed between the two: at most 6e-4 for schedules with q >= 0.01 and epsilon up to 72.
ABSOLUTE_TOLERANCE: Final = 5e-3
RELATIVE_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Released:
    """`epsilon` by PLD, never below the true one, with all allowances: the published figure.

    `first` is the same without the allowance for rounding in the convolution (which only matters
    for a delta near 1e-12), and `second` is the PRV estimate at the same delta. These two are
    compared, and differ by at most `tolerance`.
    """

    epsilon: float
    first: float
    second: float
    tolerance: float


def released_epsilon(events: Iterable[Event], delta: float) -> Released:
    """Epsilon at `delta` of one frozen schedule, on a finer grid, confirmed by a second accountant.

    Direction of the error: upwards (see `epsilon`). The two agree if the first, at the delta of the
    second, is no lower than its lower bound and no higher than its estimate plus 0.005 + 0.1 %, in
    addition to what rounding may do at that delta. Where the first is higher, it is computed once
    more on a grid ten times as fine.
    Raises `AccountingError` if they disagree, if delta is too small for this many steps, and where
    either accountant does.
    """
    return _agreed(list(events), delta, (RELEASE, RELEASE / 10))


def check_releasable(events: Iterable[Event], delta: float) -> None:
    """Raise `AccountingError` for a schedule whose figure `released_epsilon` would not release.

    To be called before a study begins, for all of its rounds and attempts: what cannot be stated
    at the end should not be spent. Quicker than the release: where the two agree on the coarser
    grid that is enough, because a finer one only comes closer. A schedule without noise has no
    figure, and passes.
    """
    known = list(events)
    if not any(event.no_privacy for event in known):
        _agreed(known, delta, (RUNNING, RELEASE, RELEASE / 10))


def _agreed(events: list[Event], delta: float, grids: tuple[float, ...]) -> Released:
    check_probability(delta)
    merged = merge_events(events)
    if not merged:
        return Released(0.0, 0.0, 0.0, ABSOLUTE_TOLERANCE)
    check_within_reach(merged, delta)
    if math.isinf(epsilon_of(merged, delta, RUNNING)):
        raise AccountingError(
            f"At delta {delta:g} this schedule has no epsilon: its noise is so little that what "
            "the sampler cannot exclude decides.",
            "Raise the noise multiplier; figures end where epsilon is about 30.",
        )
    low, second, _ = prv_epsilon(events, delta)
    for grid in grids:
        first, figure = _estimate(merged, delta, grid), epsilon_of(merged, delta, grid)
        rounded = figure - first  # what rounding may do to either accountant
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


def _estimate(merged: MergedSteps, delta: float, grid: float) -> float:
    """Epsilon at the delta of the second accountant: without an allowance for rounding."""
    if in_closed_form(merged):
        return epsilon_of(merged, delta, grid)
    losses = loss_distribution(merged, grid)

    def gaussian(at: float) -> float:
        return float(losses.get_epsilon_for_delta(at))

    return stretched(gaussian, delta - reserved(delta), nearness(merged))


def check_within_reach(merged: MergedSteps, delta: float) -> None:
    """Raise `AccountingError` where rounding leaves nothing of `delta` for an epsilon."""
    steps = sum(part.steps for part in merged)
    least = rounding(steps)
    if in_closed_form(merged):
        return  # nothing is convolved
    if delta - reserved(delta) <= least:
        raise AccountingError(
            f"delta is {delta:g}, too small for {steps} steps: rounding in their composition may "
            f"take {least:.2g} of it, which leaves no finite epsilon to state.",
            f"Use a delta well above {math.ceil(least * 1e13) / 1e13:.2g}, or fewer steps.",
        )

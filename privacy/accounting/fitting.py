"""How much of a budget is left, in rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from privacy.accounting.bounds import check_probability
from privacy.accounting.composition import (
    MAX_COMPOSED_STEPS,
    RUNNING,
    MergedSteps,
    any_noiseless,
    epsilon_of,
    merge_events,
    merge_steps,
)
from privacy.errors import AccountingError
from privacy.events import Event

MOST_ROUNDS: Final = 10_000  # the search stops here: nobody needs more, and it takes time


def rounds_that_fit(spent: Sequence[Event], one: Event, delta: float, budget: float) -> int:
    """How many more attempts like `one` keep epsilon at `delta` within `budget` after `spent`.

    `spent` and `one` belong to one frozen schedule; with several studies summed, pass what their
    sum leaves of the budget (nothing fits into 0 or less). 0 if anything has no noise. By
    bisection on the pessimistic PLD (`epsilon`), so it errs towards fewer rounds; 10,000
    stands for that many or more. Raises `AccountingError` for figures that are not numbers, and
    for what is not an event.
    """
    check_probability(delta)
    real = isinstance(budget, (int, float)) and not isinstance(budget, bool)
    if not (real and math.isfinite(budget)):
        raise AccountingError(f"The budget is {budget!r}; it must be a finite number.")
    if any_noiseless([*spent, one]) or budget <= 0:
        return 0
    return _fit(merge_events(spent), merge_events([one]), delta, float(budget))


@lru_cache(maxsize=256)
def _fit(spent: MergedSteps, one: MergedSteps, delta: float, budget: float) -> int:
    room = MAX_COMPOSED_STEPS - sum(part.steps for part in spent)
    most = min(room // sum(part.steps for part in one), MOST_ROUNDS)

    def fits(rounds: int) -> bool:
        return epsilon_of(_with(spent, one, rounds), delta, RUNNING) <= budget

    if most < 1 or not fits(1):
        return 0
    # Epsilon grows with the rounds: double until too many, then halve the interval.
    enough, too_many = 1, 2
    while too_many <= most and fits(too_many):
        enough, too_many = too_many, 2 * too_many
    too_many = min(too_many, most + 1)
    while too_many - enough > 1:
        middle = (enough + too_many) // 2
        enough, too_many = (middle, too_many) if fits(middle) else (enough, middle)
    return enough


def _with(spent: MergedSteps, one: MergedSteps, rounds: int) -> MergedSteps:
    return merge_steps([*spent, *(part._replace(steps=rounds * part.steps) for part in one)])

"""Whether the epsilon of a whole schedule, all rounds and attempts, can be claimed at its end."""

from __future__ import annotations

import importlib.util

from privacy.accounting.composition import (
    MAX_COMPOSED_STEPS,
    RUNNING,
    MergedSteps,
    epsilon_of,
    merge_events,
)
from privacy.accounting.release import check_releasable, check_within_reach
from privacy.errors import AccountingError
from privacy.events import SENSITIVITY_TOLERANCE, Event


def check_claimable(event: Event, attempts: int, delta: float) -> None:
    """Raise `AccountingError` where no epsilon at `delta` could be released for all `attempts`.

    Ordinary schedules take milliseconds: a random sample of them showed the two accountants to
    agree everywhere. For others both are asked, which takes seconds; where the second is not
    installed, the first alone is (the other side of a study asks the second). An event without
    noise has no epsilon, and passes.
    """
    steps = attempts * sum(part.steps for part in event.charged)
    if steps > MAX_COMPOSED_STEPS:
        raise AccountingError(
            f"The study has {steps} steps, all rounds and attempts together; more than "
            f"{MAX_COMPOSED_STEPS} cannot be accounted for.",
            "Correct the study.",
        )
    if event.no_privacy:
        return
    events = (event,) * attempts
    merged = merge_events(events)
    check_within_reach(merged, delta)
    running = epsilon_of(merged, delta, RUNNING)
    if _ordinary(merged, delta, running) or importlib.util.find_spec("opacus") is None:
        return
    check_releasable(events, delta)


def _ordinary(charged: MergedSteps, delta: float, epsilon: float) -> bool:
    """Whether the schedule is of the kind on which the two agreed without exception."""
    least, most = (sigma / (1 + SENSITIVITY_TOLERANCE) for sigma in (0.4, 100))
    return (
        all(
            part.sampling_rate >= 1e-3 and least <= part.noise_multiplier <= most
            for part in charged
        )
        and sum(part.steps for part in charged) <= 100_000
        and delta >= 1e-9
        and epsilon <= 60
    )

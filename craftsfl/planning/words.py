"""A plan's verdict in plain words."""

from __future__ import annotations

import math
from typing import Final

from craftsfl.planning.cost import slot_for_training
from craftsfl.planning.mending import cheapest_change
from craftsfl.planning.plan import PlannedMode, StudyPlan
from craftsfl.planning.recovery import MOST, rehearsals_of

_SHARES: Final = (
    (0.1, "a tenth"),
    (0.25, "a quarter"),
    (1 / 3, "a third"),
    (0.4, "two fifths"),
    (0.5, "half"),
    (2 / 3, "two thirds"),
    (0.75, "three quarters"),
    (0.9, "nine tenths"),
    (1.0, "nearly all"),
)


def verdict_words(plan: StudyPlan) -> str:
    """One sentence: alone, apart, together; how many steps, how long."""
    alone, apart, together = (share_words(mode) for mode in plan.modes)
    if plan.alone.lesson != "nothing":
        alone = f"at most {alone}"  # on other hospitals' stains it does worse
    cost = plan.pooled.cost
    return (
        f"Alone, the largest site would learn {alone}; each with all of its own noise, {apart}; "
        f"together, {together} of what the same patients' data would teach in one place without "
        f"noise: {plan.asked.steps} steps, {time_words(cost.whole)}."
    )


def mending_words(plan: StudyPlan) -> str:
    """The cheapest change by which half would be recovered; "" where that is so already."""
    if plan.pooled.lesson == "most":
        return ""
    change = cheapest_change(plan)
    if change is None:
        return "No single change would mend it: not a million patients at this ε."
    share = share_words(change.plan.pooled)
    return f"Cheapest change that would mend it: {change.words}; then {share}. ({change.option})"


def late_words(plan: StudyPlan) -> str:
    """That training takes longer than the slot, with the cure; "" where it does not."""
    cost = plan.pooled.cost
    if cost.training is None or cost.training <= cost.slot:
        return ""
    return (
        f"The slot of {cost.slot:g} s is shorter than training here takes, {cost.training:.0f} s: "
        "an update that comes late is lost, and charged. Leave --slot out, or say "
        f"{slot_for_training(cost.training):.0f}."
    )


def grounds_words(plan: StudyPlan) -> str:
    """On what the verdict rests."""
    known, share = plan.known, plan.pooled.share
    spread = (
        f"The share is {share.middle:.2f}; rehearsals of such a plan would lie between "
        f"{share.low:.2f} and {share.high:.2f}."
    )
    if known.rehearsed:
        runs = len(rehearsals_of(known.table, known.layout))
        return f"{spread} Fitted to {runs} rehearsals with this base, on synthetic tissue."
    return (
        f"{spread} That is a guess: no adapter of {plan.asked.parameters} numbers was ever "
        f"rehearsed on this base. It is taken to be like one of {known.layout.parameters} numbers "
        "on the tiny base. Rehearse it on public tissue before patients pay for it."
    )


def share_words(mode: PlannedMode) -> str:
    """A recovered share, to the nearest fraction that people say."""
    if mode.lesson == "nothing":
        return "nothing"
    # What is less than half is never called half.
    said = [known for known in _SHARES if (known[0] >= MOST) == (mode.lesson == "most")]
    return min(said, key=lambda known: abs(known[0] - mode.share.middle))[1]


def time_words(seconds: float) -> str:
    """Minutes, hours or days, rounded up."""
    minutes = math.ceil(seconds / 60)
    if minutes < 120:
        return f"{minutes} minute" if minutes == 1 else f"{minutes} minutes"
    hours = math.ceil(seconds / 3600)
    return f"{hours} hours" if hours < 72 else f"{math.ceil(hours / 24)} days"


def bytes_words(count: float) -> str:
    """kB, MB or GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"

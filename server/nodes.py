"""What the coordinator knows of a Flower node, and of the site that speaks through it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from privacy.wire.bodies import Refusal, SiteFacts
from privacy.wire.envelope import Envelope
from privacy.wire.reasons import Reason, explain

# Answers of a site that is still starting up, or has paused; it is asked again.
TRY_AGAIN = frozenset(
    {Reason.NOT_READY, Reason.AGENT_UNREACHABLE, Reason.AGENT_SILENT, Reason.PAUSED}
)


@dataclass(frozen=True, slots=True)
class Attendee:
    """A site of the study, and the node that speaks for it."""

    name: str
    node: int


@dataclass(slots=True)
class Node:
    """A node. Changes as answers arrive; times are monotonic."""

    due: float  # when to greet it (again)
    pause: float
    facts: SiteFacts | None = None
    trouble: str = ""  # why there are no facts, or why they are refused
    settled: bool = False  # asking again is pointless, unless somebody changes something there
    asked: Envelope | None = None  # the newest greeting
    heard: float = -math.inf  # when it last answered the newest greeting with facts
    away: str = ""  # why an accepted site cannot take part now
    missed: bool = False  # whether it let the last roll call pass

    @property
    def accepted(self) -> bool:
        """Whether it speaks for a site that may take part."""
        return self.facts is not None and not self.trouble


def refused_words(refusal: Refusal) -> str:
    """What a site's refusal means to an operator, with its figures if it has any."""
    reason = refusal.reason
    if reason in (Reason.BUDGET, Reason.CANNOT_FINISH):
        what = "this round" if reason is Reason.BUDGET else "the whole study"
        figures = (
            f"It has used epsilon {refusal.spent:.3g} of {refusal.budget:.3g}; {what} would make "
            f"it {refusal.would_be:.3g}. "
        )
    elif refusal.newest_run:
        figures = f"The newest run of the study that it knows is {refusal.newest_run}. "
    else:
        figures = ""
    return figures + explain(reason)


def clock_words(unix: float) -> str:
    """The time of day on this machine, as in "14:03"."""
    return time.strftime("%H:%M", time.localtime(unix))

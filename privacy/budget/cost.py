"""What the charges of one study cost: from charges to epsilon, and back to their number.

Every epsilon of charges comes from `study_cost`: agent, command line and coordinator agree because
they ask the same function. It is the epsilon of the worst of all observers, and where a policy
names it, of who undoes the masks too.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final

from privacy.accounting.observers import epsilon_for, worst_of
from privacy.events import ALWAYS_CHARGED, Event, Observer
from privacy.ledger import Charge

_SAME: Final = 1e-6  # relative: two figures this close are the same number of attempts


def study_cost(charges: Sequence[Charge], observers: Sequence[Observer] = ALWAYS_CHARGED) -> float:
    """Epsilon of `charges`, all of one study, against the worst of `observers`; 0.0 for none.

    Composed by PLD, or in closed form where everybody is in every step: the study's schedule is
    frozen. Infinite if anything had no noise.
    """
    if any(charge.event.no_privacy for charge in charges):
        return math.inf
    if not charges:
        return 0.0
    # The digest fixes delta; should they differ all the same, the smallest overstates epsilon.
    delta = min(charge.delta for charge in charges)
    return worst_of([charge.event for charge in charges], delta, observers)[1]


def as_charged(charges: Iterable[Charge], observers: Sequence[Observer]) -> list[Event]:
    """The events of `charges` as the worst of `observers` sees them, for what adds up by event.

    Nobody knows more of the noise than who undoes the masks.
    """
    broken = Observer.MASKS_BROKEN in observers
    events = (charge.event for charge in charges)
    return [event.seen_by(Observer.MASKS_BROKEN) if broken else event for event in events]


def cost_of_attempts(charge: Charge, count: int) -> float:
    """`study_cost` of `count` attempts that cost `charge` each."""
    return study_cost([charge] * count)


def cost_by_observer(charge: Charge, count: int) -> dict[Observer, float]:
    """Epsilon of `count` attempts at `charge` against each observer, who undoes masks included."""
    if charge.event.no_privacy:
        return dict.fromkeys(Observer, math.inf)
    events = [charge.event] * count
    return {observer: epsilon_for(observer, events, charge.delta) for observer in Observer}


def log_factor_of(charge: Charge, count: int) -> float:
    """K of `count` attempts: what it costs that their noise is drawn on integers (nats)."""
    return count * math.fsum(part.steps * part.factor for part in charge.event.charged)


def attempts_behind(epsilon: float, charge: Charge, most: int) -> int | None:
    """The inverse of `cost_of_attempts`: how many attempts at `charge` cost `epsilon`.

    None unless some number from 0 to `most` does, to a relative 1e-6. By bisection: epsilon grows
    with every attempt. Without noise every attempt costs infinity, and the answer is the first.
    """
    count = bisect_left(
        range(most + 1), epsilon * (1 - _SAME), key=lambda count: cost_of_attempts(charge, count)
    )
    close = math.isclose(cost_of_attempts(charge, count), epsilon, rel_tol=_SAME)
    return count if close and count <= most else None

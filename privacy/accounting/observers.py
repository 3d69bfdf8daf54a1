"""Epsilon against each observer, because they do not all see the same noise.

Where every site adds all the noise to its own update, everything that anybody sees is computed from
those updates, and one figure holds against everybody. Where the noise is the sum of shares, whoever
knows some of them sees less of it. Never the draw: sampling amplifies only against those who do
not see who was drawn, which is everyone outside the patient's site.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from privacy.accounting.composition import epsilon
from privacy.errors import AccountingError
from privacy.events import ALWAYS_CHARGED, Event, Observer, check_events


@dataclass(frozen=True, slots=True)
class Shares:
    """How the noise of a pooled round is shared out.

    A round opens only with at least `threshold` and at least `min_sites` survivors, so that it
    contains at least max(threshold, min_sites) = `floor` shares of noise. Up to `colluders` sites
    may pool what they know with the server. Each site adds a share of variance
    (noise_multiplier * clipping_norm)^2 / (floor - colluders): against the coalition, the noise
    at the floor is exactly the one that the event states.

    Raises `AccountingError` unless the floor is at least 2 and above the number of colluders: at
    least one share must remain that no observer knows.
    """

    threshold: int
    min_sites: int
    colluders: int = 0

    def __post_init__(self) -> None:
        for name in ("threshold", "min_sites", "colluders"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= 100_000:
                raise AccountingError(f"{name} is {value!r}; it must be a whole number.")
        if self.floor < 2 or self.floor <= self.colluders:
            raise AccountingError(
                f"{self.floor} survivors with {self.colluders} colluders leave no noise that "
                "nobody knows.",
                "Raise the threshold, or declare fewer colluders.",
            )

    @property
    def floor(self) -> int:
        """The fewest sites whose noise is in a sum that opens."""
        return max(self.threshold, self.min_sites)

    def known_to(self, observer: Observer) -> int:
        """Shares of noise that `observer` can subtract."""
        return self._known_of(self.floor, observer)

    def _known_of(self, survivors: int, observer: Observer) -> int:
        known = {
            Observer.SITE: 1,
            Observer.COALITION: self.colluders,
            Observer.MASKS_BROKEN: survivors - 1,  # it sees every share by itself
        }
        return known.get(observer, 0)

    def noise_factor(self, observer: Observer, survivors: int | None = None) -> float:
        """What `observer` sees of the noise, over the event's noise_multiplier.

        sqrt((survivors - known) / (floor - colluders)); at the floor unless `survivors` are
        given. Exact for continuous Gaussian shares; whatever discrete ones cost on top belongs
        to their mechanism.
        """
        present = self.floor if survivors is None else survivors
        if type(present) is not int or present < self.floor:
            raise AccountingError(
                f"{present!r} survivors are fewer than the floor of {self.floor}.",
                "Such a round does not open.",
            )
        hidden = present - self._known_of(present, observer)
        return math.sqrt(hidden / (self.floor - self.colluders))


def epsilon_for(observer: Observer, events: Iterable[Event], delta: float) -> float:
    """Epsilon at `delta` against `observer`, for one frozen schedule.

    Of what remains of each event's noise when `observer` has subtracted what it knows
    (`Event.seen_by`). Direction of the error: upwards, by PLD. Raises `AccountingError` as
    `epsilon` does.
    """
    observer, known = _known(observer), list(events)
    check_events(known)
    seen = {event: event.seen_by(observer) for event in dict.fromkeys(known)}
    return epsilon([seen[event] for event in known], delta)


def worst_of(
    events: Iterable[Event], delta: float, observers: Sequence[Observer] = ALWAYS_CHARGED
) -> tuple[Observer, float]:
    """The observer with the largest epsilon, and that epsilon: what the budget is charged.

    Always over those of `ALWAYS_CHARGED` at least: each of them exists, so none can be left out.
    Ties go to the first one. Raises `AccountingError` as `epsilon_for`.
    """
    known, charged = list(events), dict.fromkeys((*ALWAYS_CHARGED, *observers))
    figures = {observer: epsilon_for(observer, known, delta) for observer in charged}
    worst = max(figures, key=figures.__getitem__)
    return worst, figures[worst]


def _known(observer: Observer) -> Observer:
    try:
        return Observer(observer)
    except ValueError as error:
        raise AccountingError(
            f"Observer {observer!r} is unknown.", f"Use one of {', '.join(Observer)}."
        ) from error

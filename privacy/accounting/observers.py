"""Epsilon against each observer, because they do not all see the same noise.

local: every site adds all the noise to its own update, and everything that anybody sees is
computed from those updates; one figure holds against everybody. pooled: the noise is the sum of
shares, so whoever knows some shares sees less of it. Never the draw: sampling amplifies
only against those who do not see who was drawn, which is everyone outside the patient's site.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, TypeAlias

from privacy.accounting.composition import epsilon, merge
from privacy.errors import AccountingError
from privacy.events import Event

Mode: TypeAlias = Literal["local", "pooled"]


class Observer(StrEnum):
    """Who looks at what was released."""

    SERVER = "server"
    SITE = "site"  # one other site: it knows its own share of the noise
    COALITION = "coalition"  # the server with as many sites as the study declares may collude
    PUBLIC = "public"  # whoever gets the published adapter


@dataclass(frozen=True, slots=True)
class Shares:
    """How the noise of a pooled round is shared out.

    A round opens only with at least `threshold` and at least `min_sites` survivors, so that
    max(threshold, min_sites) = `floor` shares of noise are in it. Up to `colluders` sites may
    pool what they know with the server. Each site adds a share of variance
    (noise_multiplier * clipping_norm)^2 / (floor - colluders): against the coalition, the noise
    at the floor is exactly the one that the event states.

    Raises `AccountingError` unless the floor is at least 2 and above the colluders: some share
    has to be left that no observer knows.
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
        """Fewest sites whose noise is in a sum that opens."""
        return max(self.threshold, self.min_sites)

    def known_to(self, observer: Observer) -> int:
        """Shares of noise that `observer` can subtract."""
        known = {Observer.SITE: 1, Observer.COALITION: self.colluders}
        return known.get(observer, 0)

    def noise_factor(self, observer: Observer, survivors: int | None = None) -> float:
        """What `observer` sees of the noise, over the event's noise_multiplier.

        sqrt((survivors - known) / (floor - colluders)); at the floor unless `survivors` are
        given. Exact for continuous Gaussian shares; what discrete ones cost beyond that belongs
        to their mechanism.
        """
        present = self.floor if survivors is None else survivors
        if type(present) is not int or present < self.floor:
            raise AccountingError(
                f"{present!r} survivors are fewer than the floor of {self.floor}.",
                "Such a round does not open.",
            )
        return math.sqrt((present - self.known_to(observer)) / (self.floor - self.colluders))


def epsilon_for(
    observer: Observer,
    events: Iterable[Event],
    delta: float,
    *,
    mode: Mode = "local",
    shares: Shares | None = None,
) -> float:
    """Epsilon at `delta` against `observer`, for one frozen schedule.

    local: everybody sees post-processing of updates that carry all the noise, so `epsilon` of
    the events is an upper bound for each. pooled: the Gaussian that remains after subtracting
    the known shares, at the survivor floor; more survivors only help. Direction of the error:
    upwards, by PLD. Raises `AccountingError` as `epsilon` does, and for pooled events without
    `shares`.
    """
    observer = _known(observer)
    if mode == "local":
        return epsilon(events, delta)
    if mode != "pooled":
        raise AccountingError(f"Mode {mode!r} is unknown.", "Use 'local' or 'pooled'.")
    if shares is None:
        raise AccountingError("Pooled noise needs its shares.", "Give threshold and colluders.")
    return epsilon(_seen(events, shares.noise_factor(observer)), delta)


def _seen(events: Iterable[Event], factor: float) -> list[Event]:
    known = list(events)
    merge(known)  # refuses what has no noise_multiplier, and noise that is none
    return [replace(e, noise_multiplier=e.noise_multiplier * factor) for e in known]


def worst_of(
    events: Iterable[Event],
    delta: float,
    *,
    mode: Mode = "local",
    shares: Shares | None = None,
) -> tuple[Observer, float]:
    """The observer with the largest epsilon, and that epsilon: what the budget is charged.

    Always of all observers: nobody can be left out, for each of them is there. Of equal ones the
    first. Raises `AccountingError` as `epsilon_for`.
    """
    known = list(events)
    figures = {o: epsilon_for(o, known, delta, mode=mode, shares=shares) for o in Observer}
    worst = max(figures, key=figures.__getitem__)
    return worst, figures[worst]


def _known(observer: Observer) -> Observer:
    try:
        return Observer(observer)
    except ValueError as error:
        raise AccountingError(
            f"Observer {observer!r} is unknown.", f"Use one of {', '.join(Observer)}."
        ) from error

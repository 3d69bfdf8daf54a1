"""What the accountant counts: frozen, versioned records of mechanisms that were run.

Here is what every such record promises (`Event`), and the one form in which all of them are
charged (`GaussianSteps`). A record's meaning never changes; a new mechanism gets a new class, in
its own folder of `privacy.mechanisms`, and a new name.
"""

# Why: docs/adr/0023-mechanisms-as-values.md

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Final, NamedTuple, Protocol, Self, runtime_checkable

from privacy.errors import AccountingError

MIN_SAMPLING_RATE: Final = 1e-6
# Below this, one step already costs an epsilon of thousands: more likely a typing error than a
# choice, and costly to compute. No noise at all is spelled 0.
MIN_NOISE_MULTIPLIER: Final = 0.01
MAX_NOISE_MULTIPLIER: Final = 1e4
MAX_CLIPPING_NORM: Final = 1e6
MAX_STEPS: Final = 1_000_000

# A clipping engine promises a sensitivity of C (1 + this), for float32 rounds what it clips. The
# accountant divides every noise multiplier by 1 + this, so that what is charged covers it.
SENSITIVITY_TOLERANCE: Final = 1e-6


class Observer(StrEnum):
    """Who looks at what was released."""

    SERVER = "server"
    SITE = "site"  # one other site: it knows its own share of the noise
    COALITION = "coalition"  # the server with as many sites as the study declares may collude
    PUBLIC = "public"  # whoever gets the published adapter
    # Whoever undoes the masks: a quantum computer, or all other sites together. It sees what each
    # site sent by itself. Always shown; charged where a policy names it.
    MASKS_BROKEN = "masks-broken"


ALWAYS_CHARGED: Final = (Observer.SERVER, Observer.SITE, Observer.COALITION, Observer.PUBLIC)


class GaussianSteps(NamedTuple):
    """`steps` Poisson-subsampled Gaussian steps of sensitivity 1: the form that all is charged in.

    Both accountants compose them, and their Renyi divergences add up. A mechanism states steps
    that dominate its own; where no such steps do, it needs an accountant of its own first.

    It may also state steps that its own are only near to: whatever was seen before, the probability
    of each output is within e^`factor` of that of such a step (or of what is computed from one), up
    to a total variation of `distance`, and but for outputs that have a probability of `beyond` in
    all; all of one step. `privacy.accounting.nearness` charges that.
    """

    sampling_rate: float
    noise_multiplier: float  # over the sensitivity that an engine really keeps
    steps: int
    factor: float = 0.0  # K of one step, in nats
    distance: float = 0.0  # of one step, in probability
    beyond: float = 0.0  # of one step, in probability


@runtime_checkable
class Event(Protocol):
    """One attempt at a round, or several, as it is charged: frozen, hashable, equal by value."""

    NAME: ClassVar[str]  # of its JSON, with the version; a pair is never given another meaning
    VERSION: ClassVar[int]

    @property
    def no_privacy(self) -> bool:
        """True without noise: epsilon is infinite."""
        ...

    @property
    def charged(self) -> tuple[GaussianSteps, ...]:
        """What it costs against the worst of those observers who are always charged."""
        ...

    def times(self, count: int) -> Event:
        """`count` >= 1 of it as one event."""
        ...

    def seen_by(self, observer: Observer) -> Event:
        """The same event without the noise that `observer` can subtract."""
        ...

    @property
    def sums_over_sites(self) -> bool:
        """Whether one noise serves the patients of several sites, so that a patient of two of them
        is in one sum twice.
        """
        ...

    def rarer(self, factor: int) -> Event | None:
        """The same with the chance of entering a step over `factor`; None if impossible."""
        ...

    def to_json(self) -> str:
        """Canonical JSON: equal events give equal text."""
        ...

    @classmethod
    def of_json(cls, values: Mapping[str, object]) -> Self:
        """The event with these `values` of its JSON, name and version taken off.

        Raises `AccountingError` for missing and unknown keys, and for values of a wrong type.
        """
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """An event as one observer sees it: only ever composed, never written to a ledger."""

    NAME: ClassVar[str] = "seen"
    VERSION: ClassVar[int] = 1

    charged: tuple[GaussianSteps, ...]

    @property
    def no_privacy(self) -> bool:
        """See `Event.no_privacy`."""
        return any(part.noise_multiplier == 0 for part in self.charged)

    @property
    def sums_over_sites(self) -> bool:
        """See `Event.sums_over_sites`."""
        return False

    def times(self, count: int) -> Seen:
        """See `Event.times`."""
        return Seen(tuple(part._replace(steps=count * part.steps) for part in self.charged))

    def seen_by(self, observer: Observer) -> Seen:
        """See `Event.seen_by`: one observer has been chosen already."""
        return self

    def rarer(self, factor: int) -> None:
        """See `Event.rarer`."""

    def to_json(self) -> str:
        """Raises `AccountingError`: what was run is written down, not how somebody sees it."""
        raise AccountingError("An observer's view of an event is not a record.")

    @classmethod
    def of_json(cls, values: Mapping[str, object]) -> Self:
        """Raises `AccountingError`."""
        raise AccountingError("An observer's view of an event is not a record.")


def check_events(events: Iterable[object]) -> None:
    """Raise `AccountingError` for what cannot be accounted for because it is not an event.

    Nor is what only inherits its name from an event: a subclass may mean something else. One of
    each type is looked at, so that a long schedule takes no longer than a short one.
    """
    for event in {type(event): event for event in events}.values():
        if not (isinstance(event, Event) and "NAME" in vars(type(event))):
            raise AccountingError(f"{type(event).__name__} cannot be accounted for.")


def canonical_json(kind: type[Event], values: Mapping[str, object]) -> str:
    """`values` of an event of `kind` as JSON with sorted keys and without blanks."""
    named = {"event": kind.NAME, "version": kind.VERSION, **values}
    return json.dumps(named, sort_keys=True, separators=(",", ":"), allow_nan=False)


def check_keys(values: Mapping[str, object], types: Mapping[str, tuple[type, ...]]) -> None:
    """Raise `AccountingError` unless the keys are those of `types`, each of one of its types."""
    if set(values) != set(types):
        odd = ", ".join(sorted(set(types) ^ set(values)))
        raise AccountingError(f"Event record with missing or unknown keys: {odd}.")
    for name, allowed in types.items():
        if type(values[name]) not in allowed:  # not isinstance: True would pass as a number
            raise AccountingError(f"Event record: {name} has the wrong type.")


def gaussian_steps(sampling_rate: float, noise_multiplier: float, steps: int) -> GaussianSteps:
    """What `steps` steps are charged as: the noise over the sensitivity that engines really keep.

    Raises `AccountingError` for figures that make no mechanism: negative, NaN, infinite, huge.
    """
    check_within("sampling_rate", sampling_rate, MIN_SAMPLING_RATE, 1.0)
    if not (_real(noise_multiplier) and noise_multiplier == 0):
        check_within(
            "noise_multiplier",
            noise_multiplier,
            MIN_NOISE_MULTIPLIER,
            MAX_NOISE_MULTIPLIER,
            also="or exactly 0 for a run without privacy",
        )
    if type(steps) is not int or not 1 <= steps <= MAX_STEPS:
        raise wrong_figure("steps", steps, f"a whole number from 1 to {MAX_STEPS}")
    charged = noise_multiplier / (1 + SENSITIVITY_TOLERANCE)
    return GaussianSteps(float(sampling_rate), float(charged), steps)


def check_within(name: str, value: float, low: float, high: float, *, also: str = "") -> None:
    """Raise `AccountingError` unless `value` is a number from `low` to `high`."""
    if not (_real(value) and low <= value <= high):  # NaN and infinity are not
        raise wrong_figure(name, value, f"from {low:g} to {high:g} {also}".strip())


def wrong_figure(name: str, value: object, expected: str) -> AccountingError:
    """The error of a figure `name` that makes no mechanism."""
    return AccountingError(f"{name} is {value!r}; it must be {expected}.", "Correct the study.")


def _real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

"""The events of a run: one frozen class each. `server.event_lines` has their line of JSON.

Public facts only: names of sites, rounds, reasons out of a closed set, epsilons. Promises to
readers of any version, each with a test: an event never loses or renames a field; a new field comes
last and has a default; `decode_event` ignores unknown fields, returns None for an unknown event,
and refuses everything else.
"""

# Why: docs/adr/0025-typed-events-and-errors.md

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

ROUND, STEP = "round", "step"  # what a run counts; a pooled study's rounds are steps

_EventT = TypeVar("_EventT", bound="type[RunEvent]")
_CLASSES: dict[str, type[RunEvent]] = {}


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Base of all events; `name` identifies the event in its line."""

    name: ClassVar[str] = ""


def _event(name: str) -> Callable[[_EventT], _EventT]:
    def register(kind: _EventT) -> _EventT:
        kind.name = name
        _CLASSES[name] = kind
        return kind

    return register


@_event("run-started")
@dataclass(frozen=True, slots=True)
class RunStarted(RunEvent):
    """A coordinator has begun the run, or taken it up again (`resumed`)."""

    rounds: int
    sites: tuple[str, ...]
    resumed: bool


@_event("phase")
@dataclass(frozen=True, slots=True)
class PhaseEnded(RunEvent):
    """A phase of the coordinator's work took `seconds`."""

    phase: str
    seconds: float


@_event("site-joined")
@dataclass(frozen=True, slots=True)
class SiteJoined(RunEvent):
    """A site takes part; it has used `epsilon` of its `budget`."""

    site: str
    patients: int
    epsilon: float | None
    budget: float | None
    masked: bool


@_event("site-missing")
@dataclass(frozen=True, slots=True)
class SiteMissing(RunEvent):
    """A site of the study has not answered in time."""

    site: str
    reason: str


@_event("site-refused")
@dataclass(frozen=True, slots=True)
class SiteRefused(RunEvent):
    """The coordinator refuses a site: what it says contradicts the study."""

    site: str
    reason: str


@_event("node-refused")
@dataclass(frozen=True, slots=True)
class NodeRefused(RunEvent):
    """A node may not speak for the site that it names; `node` is Flower's id."""

    node: str
    reason: str


@_event("site-left-out")
@dataclass(frozen=True, slots=True)
class SiteLeftOut(RunEvent):
    """A site is present, but may not be in this round's cohort."""

    site: str
    round: int
    reason: str


@_event("round-started")
@dataclass(frozen=True, slots=True)
class RoundStarted(RunEvent):
    """An attempt at a round begins with `sites`; `unit`: what the study calls a round."""

    round: int
    rounds: int
    attempt: int
    sites: tuple[str, ...]
    unit: str = ROUND


@_event("site-started")
@dataclass(frozen=True, slots=True)
class SiteStarted(RunEvent):
    """A site has begun to train, `seconds` after the attempt began."""

    round: int
    rounds: int
    attempt: int
    site: str
    seconds: float


@_event("site-finished")
@dataclass(frozen=True, slots=True)
class SiteFinished(RunEvent):
    """A site's update has arrived; `epsilon` is its total, None if unknown or unbounded."""

    round: int
    rounds: int
    attempt: int
    site: str
    epsilon: float | None
    seconds: float


@_event("site-dropped")
@dataclass(frozen=True, slots=True)
class SiteDropped(RunEvent):
    """A site dropped out, at `exchange` in a masked study; `in_sum`: its update still counts."""

    round: int
    rounds: int
    attempt: int
    site: str
    reason: str
    exchange: str
    in_sum: bool


@_event("exchange-finished")
@dataclass(frozen=True, slots=True)
class ExchangeFinished(RunEvent):
    """An exchange of secure aggregation is over: `answered` of the `asked` sites replied."""

    round: int
    rounds: int
    attempt: int
    exchange: str
    seconds: float
    asked: int
    answered: int


@_event("round-finished")
@dataclass(frozen=True, slots=True)
class RoundFinished(RunEvent):
    """A round has a new adapter, of L2 norm `adapter_norm`, from the updates of `sites`."""

    round: int
    rounds: int
    attempt: int
    updates: int
    adapter_norm: float | None
    seconds: float | None
    sites: tuple[str, ...]
    masked: bool
    unit: str = ROUND


@_event("round-failed")
@dataclass(frozen=True, slots=True)
class RoundFailed(RunEvent):
    """An attempt at a round failed."""

    round: int
    attempt: int
    reason: str
    unit: str = ROUND


@_event("session-opened")
@dataclass(frozen=True, slots=True)
class SessionOpened(RunEvent):
    """`sites` have keys for the steps to come, until `expiry` (Unix seconds); `reason`: why now."""

    session: int
    sites: tuple[str, ...]
    expiry: float
    reason: str


@_event("adapter-confirmed")
@dataclass(frozen=True, slots=True)
class AdapterConfirmed(RunEvent):
    """`sites` of the study's `of` have proven the last sum, and worked out the same adapter.

    `digest` (hex) is of the numbers of what is published, as each site's own log has it; `others`
    are the other sites, each with the reason why it confirms nothing: "north: It was not there."
    """

    sites: tuple[str, ...]
    of: int
    digest: str
    others: tuple[str, ...]


@_event("run-finished")
@dataclass(frozen=True, slots=True)
class RunFinished(RunEvent):
    """The run is complete; the paths of its results."""

    adapter: str
    samples: str
    result: str


@_event("run-failed")
@dataclass(frozen=True, slots=True)
class RunFailed(RunEvent):
    """The run has failed; `error` is the error's id in docs/errors.md."""

    reason: str
    hint: str
    error: str = ""


@_event("run-waiting")
@dataclass(frozen=True, slots=True)
class RunWaiting(RunEvent):
    """The next attempt has to wait, and uses up nothing; `reason` says for what."""

    reason: str


@_event("run-goes-on")
@dataclass(frozen=True, slots=True)
class RunGoesOn(RunEvent):
    """The wait, or the pause, is over."""


@_event("run-paused")
@dataclass(frozen=True, slots=True)
class RunPaused(RunEvent):
    """The operator wants no new attempt for now."""


@_event("run-stopped")
@dataclass(frozen=True, slots=True)
class RunEnded(RunEvent):
    """The operator has ended the run for good, after `rounds_done` rounds."""

    rounds_done: int


@_event("run-interrupted")
@dataclass(frozen=True, slots=True)
class RunBroken(RunEvent):
    """A ServerApp has ended, and its run has not: another one goes on with it."""

    reason: str


@_event("quality-measured")
@dataclass(frozen=True, slots=True)
class QualityMeasured(RunEvent):
    """A figure on public tiles, of the adapter after `round` (0: of the base).

    `change` is the difference to the base, from `low` to `high` with 95 % confidence, over
    `patients`. Metrics: "denoising" (a loss) and "alignment" (higher is better).
    """

    round: int
    metric: str
    value: float
    change: float
    low: float | None
    high: float | None
    patients: int
    images: int


@_event("warning")
@dataclass(frozen=True, slots=True)
class Warned(RunEvent):
    """Something that the run can do without went wrong."""

    reason: str


def event_class(name: str) -> type[RunEvent] | None:
    """The class of the events of this name; None if this version knows none."""
    return _CLASSES.get(name)


def event_names() -> tuple[str, ...]:
    """The names of all events, in no particular order."""
    return tuple(_CLASSES)

"""The events of a run: one frozen class each, and their line of JSON in `events.jsonl`.

Public facts only: names of sites, rounds, reasons out of a closed set, epsilons. A line is

    {"time": Unix seconds, "event": name, "run": the run's number, ... the class's fields in order}

JSON has no infinity: an epsilon without a bound (no noise, no privacy) is written as null and read
back as None. Promises to readers of any version, each with a test: an event never loses or renames
a field; a new field comes last and has a default; `decode_event` ignores unknown fields, returns
None for an unknown event, and refuses everything else.
"""

# Why: docs/adr/0025-typed-events-and-errors.md

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, ClassVar, TypeVar, get_type_hints

from privacy.error_ids import ErrorId
from privacy.errors import WireError

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


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """A line of `events.jsonl`: what happened, in which run, and when (Unix seconds)."""

    time: float
    run: str
    event: RunEvent


def event_names() -> tuple[str, ...]:
    """The names of all events, in no particular order."""
    return tuple(_CLASSES)


def encode_event(logged: LoggedEvent) -> bytes:
    """The line of `events.jsonl`, including the line feed."""
    event = logged.event
    facts = {field.name: getattr(event, field.name) for field in fields(event)}
    values = {"time": round(logged.time, 3), "event": event.name, "run": logged.run, **facts}
    return (json.dumps(finite(values), separators=(",", ":")) + "\n").encode("utf-8")


def decode_event(line: bytes) -> LoggedEvent | None:
    """The event in `line`; None if only a newer version knows it. Raises `WireError`."""
    try:
        values = json.loads(line)
    except ValueError:  # not JSON, or not UTF-8
        raise _malformed("not JSON") from None
    if not isinstance(values, dict) or not isinstance(values.get("event"), str):
        raise _malformed("it names no event")
    kind = _CLASSES.get(values["event"])
    if kind is None:
        return None
    time, run = _fact(values, "time", float), _fact(values, "run", str)
    hints = get_type_hints(kind)
    facts = {
        field.name: _fact(values, field.name, hints[field.name])
        for field in fields(kind)
        if field.name in values or not _optional(field)
    }
    return LoggedEvent(time, run, kind(**facts))


def finite(values: Mapping[str, object]) -> dict[str, object]:
    """`values` with None for infinite numbers, which JSON lacks (no privacy, no limit)."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def _optional(field: Field[Any]) -> bool:
    return field.default is not MISSING


def _fact(values: Mapping[str, object], name: str, hint: object) -> Any:  # noqa: ANN401
    """The value of field `name`, of type `hint`."""
    if name not in values:
        raise _malformed(f"{name} is missing")
    value = values[name]
    if hint == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif hint in (float, float | None):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if value is None and hint == float | None:
            return None
    elif type(value) is hint:
        return value
    raise _malformed(f"{name} is of another type")


def _malformed(why: str) -> WireError:
    return WireError(
        f"A line of events.jsonl cannot be read: {why}.",
        "The run itself does not depend on it. See how it stands: craftsfl rounds status "
        "consortium.toml",
        id=ErrorId.EVENT_UNREADABLE,
    )

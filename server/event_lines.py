"""The lines of `events.jsonl`: one event each, as JSON.

    {"time": Unix seconds, "event": name, "run": the run's number, ... the class's fields in order}

JSON has no infinity: an epsilon without a bound (no noise, no privacy) is written as null and read
back as None.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, get_type_hints

from privacy.error_ids import ErrorId
from privacy.errors import WireError
from server.events import RunEvent, event_class


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """A line of `events.jsonl`: what happened, in which run, and when (Unix seconds)."""

    time: float
    run: str
    event: RunEvent


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
    kind = event_class(values["event"])
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

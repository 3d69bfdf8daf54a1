"""`events.jsonl`: what happened, one JSON object a line, for whoever shows a run live.

Public facts only: names of sites, rounds, reasons out of a closed set, epsilons.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from privacy.errors import DeploymentError
from server.clock import Clock

Fact: TypeAlias = str | int | float | bool | Sequence[str] | None


class EventLog:
    """Appends events; each is one write, so that a reader never sees half a line of a live file."""

    def __init__(self, path: Path, clock: Clock, **always: Fact) -> None:
        """`always` (run, study) stands in every event."""
        self._path = path
        self._clock = clock
        self._always = always
        path.parent.mkdir(parents=True, exist_ok=True)

    def emit(self, event: str, **facts: Fact) -> None:
        """Append one event; infinite figures become null. Raises `DeploymentError`."""
        values = {"time": round(self._clock.time(), 3), "event": event, **self._always, **facts}
        line = json.dumps(finite(values), separators=(",", ":")) + "\n"
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(line.encode("utf-8"))
        except OSError as error:
            raise DeploymentError(
                f"{self._path} cannot be written: {os.strerror(error.errno or 0)}.",
                "Free some space or correct the permissions, then: craftsfl rounds start",
            ) from None


def finite(values: Mapping[str, object]) -> dict[str, object]:
    """`values` with None for infinite numbers, which JSON does not have (no privacy, no budget)."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }

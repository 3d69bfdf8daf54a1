"""Writing `events.jsonl`, from which a run is shown live."""

from __future__ import annotations

import os
from pathlib import Path

from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from server.clock import RunClock
from server.event_lines import LoggedEvent, encode_event
from server.events import RunEvent


class EventLog:
    """Appends events, each in a single write, so that readers of a live file see whole lines."""

    def __init__(self, path: Path, clock: RunClock, run: str) -> None:
        """`run` stands in every line."""
        self._path = path
        self._clock = clock
        self._run = run
        path.parent.mkdir(parents=True, exist_ok=True)

    def emit(self, event: RunEvent) -> None:
        """Append one event. Raises `DeploymentError`."""
        line = encode_event(LoggedEvent(self._clock.time(), self._run, event))
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(line)
        except OSError as error:
            raise DeploymentError(
                f"{self._path} cannot be written: {os.strerror(error.errno or 0)}.",
                "Free some space or correct the permissions, then: craftsfl rounds start "
                "consortium.toml",
                id=ErrorId.STATE_NOT_WRITABLE,
            ) from None

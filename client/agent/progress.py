"""The newest state of the agent's work, for those who watch at the site."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

LOADING: Final = "loading"  # phases before the first round
ENCODING: Final = "encoding"
READY: Final = "ready"
TRAINING: Final = "training"  # of an attempt, as much as the coordinator knows too
ANSWERED: Final = "answered"  # its result, or the word that it failed, was collected


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """`done` of `total` units of `phase` ("training", ...) in an attempt. Stays at the site."""

    run: int
    round: int
    attempt: int
    phase: str
    done: int
    total: int


class ProgressSource:
    """Passes the latest event to any number of subscribers; a slow one skips, no one waits.

    All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._latest: ProgressEvent | None = None
        self._version = 0
        self._closed = False

    def publish(self, event: ProgressEvent) -> None:
        """Make `event` the latest one."""
        with self._changed:
            self._latest = event
            self._version += 1
            self._changed.notify_all()

    def publish_idle(self, event: ProgressEvent) -> None:
        """Make `event`, which is about no attempt, the latest one unless one is in progress."""
        with self._changed:
            if not self.in_attempt and event != self._latest:
                self.publish(event)

    @property
    def in_attempt(self) -> bool:
        """Whether the latest event is about an attempt that has not been answered."""
        latest = self._latest
        return latest is not None and latest.attempt > 0 and latest.phase != ANSWERED

    def close(self) -> None:
        """End all subscriptions, present and future, after the latest event."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def subscribe(self) -> Subscription:
        """The latest event, if any, then every change that the reader keeps up with."""
        return Subscription(self)

    def _wait(self, subscription: Subscription, seen: int) -> tuple[int, ProgressEvent | None]:
        """Block until there is an event newer than version `seen`, or the end (None)."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._version > seen or self._closed or subscription.closed
            )
            if self._version > seen and not subscription.closed:
                return self._version, self._latest
            return seen, None

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Subscription(Iterator[ProgressEvent]):
    """One reader of a `ProgressSource`; `close` ends it, also from another thread."""

    def __init__(self, source: ProgressSource) -> None:
        self._source = source
        self._seen = 0
        self.closed = False

    def __next__(self) -> ProgressEvent:
        self._seen, event = self._source._wait(self, self._seen)
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """End the subscription; a reader that waits wakes up."""
        self.closed = True
        self._source._wake()

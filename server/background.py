"""Tracking alongside the rounds: importing MLflow takes seconds, and no round waits for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from server.status import RunStatus
from server.tracking import ReleasedFiles, Tracked, Tracking


class BackgroundTracking:
    """A `Tracking` in a thread of its own; its errors are warnings, as no round needs it.

    `make` (slow) is called in the thread, on first use. Every call logs all that is missing, so
    whatever a failed call left out is logged by the next one.
    """

    def __init__(self, make: Callable[[], Tracking]) -> None:
        self._make = make
        self._tracking: Tracking | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracking")
        self._used = False

    def round_finished(self, status: RunStatus) -> None:
        """Log what is new in `status`, soon."""
        self._used = True
        self._thread.submit(lambda: self._get().sync(status))

    def publish(self, status: RunStatus, release: ReleasedFiles) -> Tracked:
        """Log everything else, and wait until it is done. Raises `DeploymentError`."""
        return self._thread.submit(lambda: self._get().publish(status, release)).result()

    def failed(self, status: Callable[[], RunStatus]) -> None:
        """Mark the run as failed in MLflow, if MLflow has heard of it at all."""
        if self._used:
            self._thread.submit(lambda: self._get().failed(status()))

    def close(self) -> None:
        """Wait for calls under way."""
        self._thread.shutdown(wait=True)

    def _get(self) -> Tracking:
        if self._tracking is None:
            self._tracking = self._make()
        return self._tracking

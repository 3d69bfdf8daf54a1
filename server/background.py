"""Tracking beside the rounds: MLflow takes seconds to import, and no round waits for it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from server.status import RunStatus
from server.tracking import ReleasedFiles, Tracked, Tracking


class BackgroundTracking:
    """A `Tracking` in a thread of its own; its errors are warnings, for rounds do not need it.

    `make` (slow) is called in the thread, at the first use. What a failed call
    did not log, the next one does: each logs all that is missing.
    """

    def __init__(self, make: Callable[[], Tracking]) -> None:
        self._make = make
        self._tracking: Tracking | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracking")
        self._told = False

    def round_finished(self, status: RunStatus) -> None:
        """Log what `status` has new, some time soon."""
        self._told = True
        self._thread.submit(lambda: self._get().sync(status))

    def publish(self, status: RunStatus, release: ReleasedFiles) -> Tracked:
        """Log all the rest and wait for it. Raises `DeploymentError`."""
        return self._thread.submit(lambda: self._get().publish(status, release)).result()

    def failed(self, status: Callable[[], RunStatus]) -> None:
        """The run has failed: say so in MLflow, if it was ever told of the run."""
        if self._told:
            self._thread.submit(lambda: self._get().failed(status()))

    def close(self) -> None:
        """Wait for what is under way."""
        self._thread.shutdown(wait=True)

    def _get(self) -> Tracking:
        if self._tracking is None:
            self._tracking = self._make()
        return self._tracking

"""Tracking alongside the rounds: neither a round nor the end of a run waits for MLflow.

Importing MLflow takes seconds, and a server may be down, hang, or answer a byte a second. So a
thread of its own does it, which nobody joins: it ends with the process. It always logs everything
that is missing of the newest state, so states that came while it was busy are not queued.
"""

# Why: docs/adr/0037-mlflow-is-never-waited-for.md

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from privacy.error_ids import ErrorId
from privacy.errors import CraftsflError, DeploymentError
from server.registry import LOG_LATER
from server.status import RunStatus
from server.tracking import Tracked, Tracking

MLFLOW_SECONDS: Final = 6.0  # seconds that the end of a run waits for MLflow
_IMPORT_SECONDS: Final = 60.0  # that it waits for MLflow's own import, which this machine decides

_Job = Callable[[Tracking], Tracked | None]


@dataclass(frozen=True, slots=True)
class _Task:
    job: _Job
    done: Future[Tracked | None]
    awaited: bool  # its caller hears of a failure; otherwise `warn` does


class BackgroundTracking:
    """A `Tracking` in a thread of its own; its errors are warnings, as no round needs it.

    `make` (slow, imports MLflow) is called in the thread. `warn` is told of the first failure in
    a row, from the thread.
    """

    def __init__(
        self,
        make: Callable[[], Tracking],
        *,
        warn: Callable[[CraftsflError], None] = lambda error: None,
        patience: float = MLFLOW_SECONDS,
    ) -> None:
        self._make = make
        self._warn = warn
        self._patience = patience
        self._tracking: Tracking | None = None
        self._next: _Task | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._imported = threading.Event()
        self._failing = False
        self._working = False

    @property
    def busy(self) -> bool:
        """Whether something is being logged, or about to be."""
        with self._changed:
            return self._working or self._next is not None

    def round_finished(self, status: RunStatus) -> None:
        """Log what is new in `status`, soon."""

        def sync(tracking: Tracking) -> None:
            tracking.sync(status)

        self._put(sync)

    def publish(self, status: RunStatus) -> Tracked:
        """Log everything of a finished run, and wait for it for a few seconds.

        Raises `DeploymentError` if MLflow cannot be used, or has not answered by then.
        """
        return self._finish(lambda tracking: tracking.publish(status))

    def failed(self, status: Callable[[], RunStatus]) -> None:
        """Mark the run as failed in MLflow, if MLflow has heard of it at all; as `publish`."""
        if self._thread is not None:

            def fail(tracking: Tracking) -> Tracked:
                return Tracked(tracking.failed(status()), None)

            self._finish(fail)

    def _put(self, job: _Job, *, awaited: bool = False) -> Future[Tracked | None]:
        """Make `job` the next one, in place of one that has not begun."""
        task = _Task(job, Future(), awaited)
        with self._changed:
            self._next = task
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
                self._thread.start()
        return task.done

    def _finish(self, job: Callable[[Tracking], Tracked]) -> Tracked:
        future = self._put(job, awaited=True)
        self._imported.wait(_IMPORT_SECONDS)
        try:
            tracked = future.result(self._patience)
        except TimeoutError:
            tracked = None
        if tracked is None:
            raise DeploymentError(
                f"MLflow did not take everything within {self._patience:.0f} s.",
                f"Everything else is done. See whether MLflow answers. {LOG_LATER}",
                id=ErrorId.MLFLOW_UNUSABLE,
            )
        return tracked

    def _work(self) -> None:
        import mlflow  # noqa: F401 - it takes seconds, and no server is to blame for them

        self._imported.set()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next is not None)
                task, self._next = self._next, None
                self._working = True
            if task is not None:
                self._do(task)
            with self._changed:
                self._working = False

    def _do(self, task: _Task) -> None:
        try:
            if self._tracking is None:
                self._tracking = self._make()
            task.done.set_result(task.job(self._tracking))
            self._failing = False
        except CraftsflError as error:
            task.done.set_exception(error)
            if not (self._failing or task.awaited):
                with suppress(CraftsflError):  # a full disk: the rounds will notice it themselves
                    self._warn(error)
            self._failing = True

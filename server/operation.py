"""One run from its settings to `result.json`: rounds, final adapter, samples, tracking.

The one place that knows how a run ends. `CraftsflError`s are written to the store and to the
events before they go on; a killed process writes nothing, and its run can be taken up again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from model.importing import quick_imports
from model.layout import Layout, initial_vector
from privacy.errors import ConfigError, CraftsflError
from privacy.secagg.roster import Roster
from privacy.study.agreement import roster_in_force
from privacy.study.manifest import Study, load_study
from server.attempt import known
from server.background import BackgroundTracking
from server.clock import Clock, SystemClock, Timing
from server.events import EventLog
from server.phases import Phases
from server.result import Result, write_result
from server.rounds import Federation, ServerModel, run_federation
from server.settings import ConsortiumSettings
from server.store import Store
from server.tables import RunState
from server.tracking import Release, Tracked, Tracking, TrackingPlace
from strategies import Strategy, make_strategy

_log = logging.getLogger("craftsfl.server")


@dataclass(frozen=True)
class Operation:
    """A run to be made: `run` is Flower's run id. `plain` allows a study without masks."""

    settings: ConsortiumSettings
    run: int
    grid: Grid
    clock: Clock
    timing: Timing
    plain: bool = False


def operate(operation: Operation) -> None:
    """Run the study to its end; raises `CraftsflError` after writing down why it failed."""
    settings, clock = operation.settings, operation.clock
    events = EventLog(settings.events_file(), clock, run=str(operation.run))
    store = Store(settings.database_url(), operation.run, clock)
    try:
        with _failures_written_down(store, events, settings.log_file()):
            study = load_study(settings.study)
            _check_schedule(study)
            consortium = load_roster(settings, study)
            if not (study.masked or operation.plain):
                raise ConfigError(
                    f"The study {study.name} does without secure aggregation.",
                    'Set aggregation.secure_aggregation = "required" in study.toml: in a plain '
                    "study the coordinator would see every site's own update.",
                )
            with _tracking(settings, study, store) as tracking:
                _Run(operation, study, consortium, store, events, tracking).run()
    finally:
        store.close()


def _check_schedule(study: Study) -> None:
    from privacy.study.schedule import check_schedule  # it imports scipy

    check_schedule(study)


def load_roster(settings: ConsortiumSettings, study: Study) -> Roster | None:
    """The roster in force, verified up from the one that the study pins; None for a plain study.

    Raises `ConfigError` or `SecAggError`.
    """
    if not study.masked:
        return None
    if settings.roster is None:
        return known(None)
    return roster_in_force(study, settings.roster)


def system_operation(settings: ConsortiumSettings, run: int, grid: Grid) -> Operation:
    """An operation by the machine's clock."""
    timing = Timing(join=settings.join_deadline)
    return Operation(settings, run, grid, SystemClock(), timing)


@dataclass(frozen=True)
class _Run:
    it: Operation
    study: Study
    consortium: Roster | None
    store: Store
    events: EventLog
    tracking: BackgroundTracking

    def run(self) -> None:
        with ThreadPoolExecutor(max_workers=1) as threads:
            # torch and diffusers take seconds to import; the sites take as long to answer.
            model = threads.submit(self._load)
            vector = run_federation(self._federation(model))
        layout = model.result().layout
        release = self._release(layout, vector)
        tracked, warnings = self._publish(release)
        settings = self.it.settings
        result = Result(
            status=self.store.status(),
            parameters=layout.parameters,
            release=release,
            mlflow_uri=settings.mlflow_uri(),
            tracked=tracked,
            warnings=warnings,
        )
        write_result(settings.result_file(), result)
        self.store.set_state(RunState.FINISHED)
        self.events.emit(
            "run-finished",
            adapter=str(release.adapter),
            samples=str(release.samples),
            result=str(settings.result_file()),
        )

    def _federation(self, model: Future[ServerModel]) -> Federation:
        it = self.it
        return Federation(
            study=self.study,
            run=it.run,
            grid=it.grid,
            store=self.store,
            events=self.events,
            model=model,
            strategy=self._strategy,
            folder=it.settings.adapters_folder(),
            consortium=self.consortium,
            tracker=self.tracking,
            clock=it.clock,
            timing=it.timing,
        )

    def _strategy(self, parameters: int) -> Strategy:
        return make_strategy(self.study.aggregation, parameters)

    def _base(self) -> Path:
        from model.cache import find_base

        return find_base(self.study.base, root=self.it.settings.study.parent)

    def _load(self) -> ServerModel:
        with quick_imports():
            from model.adapters import layout_of

            layout = layout_of(self._base(), self.study.adapter)
        return ServerModel(layout, initial_vector(layout, self.study.digest()))

    def _release(self, layout: Layout, vector: NDArray[np.float32]) -> Release:
        """Save the final adapter in diffusers' format, and draw with it."""
        from model.adapters import save_adapter
        from model.devices import pick_device
        from model.origin import origin_of
        from server.samples import draw_samples

        settings = self.it.settings
        origin = origin_of(self.study, self.it.run)
        adapter = settings.adapters_folder() / f"{self.study.name}-{self.it.run}.safetensors"
        with self._phases().measure("samples"):
            save_adapter(adapter, layout, vector, self.study.adapter, origin)
            release = Release(adapter, settings.samples_file())
            device = pick_device(settings.device)
            draw_samples(self._base(), adapter, self.study.samples, release.samples, device)
        return release

    def _publish(self, release: Release) -> tuple[Tracked | None, list[str]]:
        """Tell MLflow. It is a view: where it cannot be reached, the run is finished as well."""
        try:
            with self._phases().measure("tracking"):
                return self.tracking.publish(self.store.status(), release), []
        except CraftsflError as error:
            self.events.emit("warning", reason=str(error))
            return None, [str(error)]

    def _phases(self) -> Phases:
        return Phases(self.store, self.events, self.it.clock)


@contextmanager
def _tracking(
    settings: ConsortiumSettings, study: Study, store: Store
) -> Iterator[BackgroundTracking]:
    place = TrackingPlace(settings.mlflow_uri(), settings.artifacts_folder())
    tracking = BackgroundTracking(lambda: Tracking(place, study))
    try:
        yield tracking
    except CraftsflError:
        tracking.failed(store.status)
        raise
    finally:
        tracking.close()


@contextmanager
def _failures_written_down(store: Store, events: EventLog, log: Path) -> Iterator[None]:
    try:
        yield
    except CraftsflError as error:
        store.fail(str(error))
        events.emit("run-failed", reason=error.message, hint=error.hint)
        raise
    except Exception:
        # A defect of ours: its text could hold anything, so only the process's own log gets it.
        _log.exception("The server met an error of its own.")
        store.fail(f"The server met an error of its own. See {log}.")
        events.emit("run-failed", reason="The server met an error of its own.", hint=f"See {log}.")
        raise

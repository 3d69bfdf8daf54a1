"""One run from its settings to `result.json`: rounds, final adapter, samples, tracking.

The only place that knows how a run ends. A failure is recorded in the store and in the events
before it propagates; a killed process records nothing, so its run can be taken up again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from model.importing import quick_imports
from model.layout import Layout, initial_vector
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, CraftsflError
from privacy.secagg.roster import Roster
from privacy.study.agreement import roster_in_force
from privacy.study.manifest import Study, load_study
from server.background import BackgroundTracking
from server.catch_up import tracking_of
from server.checkpoint import sha256_of
from server.clock import RunClock, SystemClock, Timing
from server.context import RunContext, require_roster
from server.event_log import EventLog
from server.events import RunFailed, RunFinished, Warned
from server.messages import Exchange
from server.result import ReleasedFiles, Result, write_result
from server.rounds import Federation, ServerModel, run_federation
from server.settings import ConsortiumSettings
from server.status import ReleaseStatus, RunFailure
from server.store import Store
from server.tables import RunState
from server.tracking import Tracked
from strategies import Strategy, make_strategy

_log = logging.getLogger("craftsfl.server")


def operate(
    settings: ConsortiumSettings,
    run: int,
    grid: Grid,
    *,
    clock: RunClock | None = None,
    plain: bool = False,
) -> None:
    """Run the study to its end as Flower's run `run`; `plain` allows a study without masks.

    `clock` defaults to the machine's. Raises `CraftsflError` once the failure is recorded.
    """
    clock = clock or SystemClock()
    events = EventLog(settings.events_file(), clock, run=str(run))
    store = Store(settings.database_url(), run, clock)
    with closing(store), _FailuresRecorded(store, events, settings.log_file()):
        study = load_study(settings.study)
        _check_schedule(study)
        context = RunContext(
            study=study,
            run=run,
            exchange=Exchange(grid),
            store=store,
            events=events,
            clock=clock,
            timing=Timing(join=settings.join_deadline),
            consortium=load_roster(settings, study),
        )
        _check_masked(study, plain=plain)
        with _tracking(settings, context) as tracking:
            _Operation(context, settings, tracking).run()


def _check_masked(study: Study, *, plain: bool) -> None:
    if not (study.masked or plain):
        raise ConfigError(
            f"The study {study.name} does not use secure aggregation.",
            'Set aggregation.secure_aggregation = "required" in study.toml: in a plain '
            "study the coordinator would see every site's own update.",
            id=ErrorId.PLAIN_STUDY,
        )


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
        return require_roster(None)
    return roster_in_force(study, settings.roster)


@dataclass(frozen=True)
class _Operation:
    context: RunContext
    settings: ConsortiumSettings
    tracking: BackgroundTracking

    def run(self) -> None:
        with ThreadPoolExecutor(max_workers=1) as threads:
            # Importing torch and diffusers takes seconds; meanwhile the sites are greeted.
            model = threads.submit(self._load)
            vector = run_federation(self._federation(model))
        layout = model.result().layout
        release = self._release(layout, vector)
        tracked, warnings = self._publish()
        settings, context = self.settings, self.context
        result = Result(
            status=context.store.status(),
            parameters=layout.parameters,
            release=release,
            mlflow_uri=settings.mlflow_uri(),
            tracked=tracked,
            warnings=warnings,
        )
        write_result(settings.result_file(), result)
        context.store.set_state(RunState.FINISHED)
        context.emit(
            RunFinished(
                adapter=str(release.adapter),
                samples=str(release.samples),
                result=str(settings.result_file()),
            )
        )

    def _federation(self, model: Future[ServerModel]) -> Federation:
        return Federation(
            context=self.context,
            model=model,
            strategy=self._strategy,
            folder=self.settings.adapters_folder(),
            tracker=self.tracking,
        )

    def _strategy(self, parameters: int) -> Strategy:
        return make_strategy(self.context.study.aggregation, parameters)

    def _base(self) -> Path:
        from model.cache import find_base

        return find_base(self.context.study.base, root=self.settings.study.parent)

    def _load(self) -> ServerModel:
        with quick_imports():
            from model.adapters import layout_of

            layout = layout_of(self._base(), self.context.study.adapter)
        return ServerModel(layout, initial_vector(layout, self.context.study.digest()))

    def _release(self, layout: Layout, vector: NDArray[np.float32]) -> ReleasedFiles:
        """Save the final adapter in diffusers' format, and draw samples with it."""
        from model.adapters import save_adapter
        from model.devices import pick_device
        from model.origin import origin_of
        from server.samples import draw_samples

        settings, study = self.settings, self.context.study
        origin = origin_of(study, self.context.run)
        adapter = settings.adapters_folder() / f"{study.name}-{self.context.run}.safetensors"
        with self.context.phase("samples"):
            save_adapter(adapter, layout, vector, study.adapter, origin)
            release = ReleasedFiles(adapter, settings.samples_file())
            device = pick_device(settings.device)
            draw_samples(self._base(), adapter, study.samples, release.samples, device)
            digests = sha256_of(release.adapter), sha256_of(release.samples)
            self.context.store.keep_release(
                ReleaseStatus(str(adapter), digests[0], str(release.samples), digests[1])
            )
        return release

    def _publish(self) -> tuple[Tracked | None, list[str]]:
        """Publish to MLflow. It is only a view: the run succeeds even if it cannot be reached."""
        try:
            with self.context.phase("tracking"):
                return self.tracking.publish(self.context.store.status()), []
        except CraftsflError as error:
            self.context.emit(Warned(str(error)))
            return None, [str(error)]


@contextmanager
def _tracking(settings: ConsortiumSettings, context: RunContext) -> Iterator[BackgroundTracking]:
    tracking = BackgroundTracking(
        lambda: tracking_of(settings, context.study),
        warn=lambda error: context.emit(Warned(str(error))),
    )
    try:
        yield tracking
    except CraftsflError:
        with suppress(CraftsflError):  # MLflow's own: the run's error matters
            tracking.failed(context.store.status)
        raise


class _FailuresRecorded:
    """Records how the block failed; catches nothing, every exception propagates."""

    def __init__(self, store: Store, events: EventLog, log: Path) -> None:
        self._store = store
        self._events = events
        self._log = log

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, CraftsflError):
            self._write(RunFailure(error.message, error.hint, error.id))
        elif isinstance(error, Exception):
            # A bug: its text could hold anything, so it goes to this process's own log only.
            _log.error("The server ran into a bug of its own.", exc_info=error)
            what = "The server ran into a bug of its own."
            self._write(RunFailure(what, f"See {self._log}.", ErrorId.INTERNAL))

    def _write(self, failure: RunFailure) -> None:
        self._store.fail(failure)
        self._events.emit(RunFailed(failure.message, failure.hint, failure.error))

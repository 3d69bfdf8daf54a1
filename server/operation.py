"""One ServerApp's part of a run, from the settings to the run's end: rounds, adapter, samples.

The only place that knows how a run ends. What ends it is recorded in the store and in the events
before it propagates. What only ends this ServerApp is recorded too, and leaves the run open: it is
taken up again where it stood, as after a kill, which records nothing.
"""

# Why: docs/adr/0034-run-life.md

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from model.layout import Layout, initial_vector
from privacy.error_ids import ErrorId
from privacy.errors import CraftsflError, DeploymentError, LogError
from privacy.identity import Identity
from privacy.log.store import LogStore
from privacy.secagg.chain import read_rosters
from privacy.secagg.roster import SignedRoster
from privacy.study.manifest import Study
from server.background import BackgroundTracking
from server.carrier import CarriedGrid
from server.catch_up import tracking_of
from server.checkpoint import sha256_of
from server.clock import RunClock, SystemClock, Timing
from server.context import RunContext
from server.event_log import EventLog
from server.events import RunBroken, RunEnded, RunFailed, RunFinished, Warned
from server.kept_layout import study_layout
from server.life import RunInterrupted, RunStopped, serving
from server.log_keeper import LogKeeper
from server.messages import Exchange
from server.own_key import coordinator_key
from server.promotion_record import PromotionRecord
from server.quality import QualityWatch, watching_quality
from server.readiness import agreed_roster, check_study_file, find_study_base, roster_file
from server.result import ReleasedFiles, Result, write_result
from server.roster_signing import RosterSigning
from server.rounds import Federation, ServerModel, Trackers, run_federation
from server.run_name import RunName
from server.runs import Runs
from server.settings import ConsortiumSettings
from server.status import ReleaseStatus, RunFailure
from server.store import Store, check_study
from server.tables import RunState
from server.tracking import Tracked
from strategies import Strategy, make_strategy

_log = logging.getLogger("craftsfl.server")


@dataclass(frozen=True, slots=True)
class Carried:
    """The run that a ServerApp serves, by its number, and the Flower run that it is itself."""

    run: int
    flower_run: int


def operate(
    settings: ConsortiumSettings,
    carried: Carried,
    grid: Grid,
    *,
    clock: RunClock | None = None,
) -> None:
    """Serve the open run until it ends.

    `clock` defaults to the machine's. Raises `CraftsflError` once the failure is recorded, or
    `RunInterrupted` if the run has not ended. Returns if it has finished or was stopped.
    """
    clock = clock or SystemClock()
    with serving(settings.lock_file(), carried.run, carried.flower_run):
        name = _open_run(settings, carried.run, clock)
        events = EventLog(settings.events_file(), clock, run=str(name.number))
        store = Store(settings.database_url(), name, clock)
        flower = CarriedGrid(grid)
        with (
            ExitStack() as held,
            closing(store),
            closing(flower),
            _EndRecorded(store, events, settings.log_file()),
        ):
            store.carried(carried.flower_run)
            with _repairable(store):
                study = check_study_file(settings)
                check_study(name, study)
                roster = agreed_roster(settings, study)
                key = coordinator_key(settings.coordinator_key, study)
                keeper = held.enter_context(opened_log(settings, study, key, clock))
            context = RunContext(
                study=study,
                run=name.number,
                exchange=Exchange(flower),
                store=store,
                events=events,
                clock=clock,
                timing=Timing(join=settings.join_deadline),
                consortium=roster.roster,
                signing=RosterSigning(roster, roster_file(settings)),
            )
            with (
                _tracking(settings, context) as tracking,
                watching_quality(settings, context, lambda: find_study_base(settings, study)) as q,
            ):
                _Operation(context, settings, key, keeper, tracking, q).run()


def _open_run(settings: ConsortiumSettings, number: int, clock: RunClock) -> RunName:
    with Runs(settings.database_url(), clock) as runs:
        found = runs.open_run()
    if found is None or found.name.number != number:
        raise RunInterrupted(
            f"Run {number} is not open at this coordinator.",
            "Start runs with craftsfl rounds start consortium.toml; see the newest: "
            "craftsfl rounds status consortium.toml",
        )
    return found.name


@contextmanager
def opened_log(
    settings: ConsortiumSettings, study: Study, key: Identity | None, clock: RunClock
) -> Iterator[LogKeeper | None]:
    """The consortium's log; None for a study without a coordinator's key.

    Raises `LogError` for one that is damaged.
    """
    if key is None:
        yield None
        return

    def rosters() -> tuple[SignedRoster, ...]:
        return read_rosters(roster_file(settings))

    promoted = PromotionRecord(settings.promotions_file())
    with LogStore(settings.transparency_file()) as store:
        yield LogKeeper(store, key, rosters, study, clock.time, promoted.entries)


@contextmanager
def _repairable(store: Store) -> Iterator[None]:
    """Of a run that has begun, a missing file or an edited one interrupts it, and no more."""
    try:
        yield
    except CraftsflError as error:
        if store.last_adapter() is None:
            raise
        raise RunInterrupted(error.message, error.hint, id=error.id) from None


@dataclass(frozen=True)
class _Operation:
    context: RunContext
    settings: ConsortiumSettings
    key: Identity | None
    keeper: LogKeeper | None
    tracking: BackgroundTracking
    quality: QualityWatch | None

    def run(self) -> None:
        if self.quality is not None:
            self.quality.begin()
        with ThreadPoolExecutor(max_workers=1) as threads:
            # The base is compared, and at the first start loaded; meanwhile the sites are greeted.
            model = threads.submit(self._load)
            vector = run_federation(self._federation(model))
        layout = model.result().layout
        release = self._release(layout, vector)
        if self.quality is not None:
            with self.context.phase("quality"):
                self.quality.finish()
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
            tracker=Trackers(self.tracking, *([self.quality] if self.quality else [])),
            key=self.key,
            log=self.keeper,
        )

    def _strategy(self, parameters: int) -> Strategy:
        return make_strategy(self.context.study.aggregation, parameters)

    def _base(self) -> Path:
        return find_study_base(self.settings, self.context.study)

    def _load(self) -> ServerModel:
        study = self.context.study
        with _repairable(self.context.store):
            layout = study_layout(study, self._base(), self.settings.layouts_folder())
        return ServerModel(layout, initial_vector(layout, study.digest()))

    def _release(self, layout: Layout, vector: NDArray[np.float32]) -> ReleasedFiles:
        """Save the final adapter in diffusers' format, and draw samples with it."""
        from model.adapters import save_adapter
        from model.devices import pick_device
        from model.origin import origin_of
        from server.samples import draw_samples

        settings, study = self.settings, self.context.study
        origin = origin_of(study, self.context.run)
        adapter = settings.adapters_folder() / f"{study.name}-{self.context.label}.safetensors"
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
    except (RunInterrupted, RunStopped, DeploymentError, LogError):
        raise  # it has not failed
    except CraftsflError:
        with suppress(CraftsflError):  # MLflow's own: the run's error matters
            tracking.failed(context.store.status)
        raise


class _EndRecorded:
    """Records how the block ended, except well; lets only `RunStopped` go no further."""

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
    ) -> bool:
        if isinstance(error, RunStopped):
            self._store.set_state(RunState.STOPPED)
            self._events.emit(RunEnded(self._store.status().rounds_done))
            return True
        if isinstance(error, RunInterrupted | DeploymentError | LogError):
            # The machine, its disk, the log or Flower gave way: the run itself can go on.
            self._store.interrupted(str(error))
            self._events.emit(RunBroken(str(error)))
        elif isinstance(error, CraftsflError):
            self._write(RunFailure(error.message, error.hint, error.id))
        elif isinstance(error, Exception):
            # A bug: its text could hold anything, so it goes to this process's own log only.
            _log.error("The server ran into a bug of its own.", exc_info=error)
            what = "The server ran into a bug of its own."
            self._write(RunFailure(what, f"See {self._log}.", ErrorId.INTERNAL))
        return False

    def _write(self, failure: RunFailure) -> None:
        self._store.fail(failure)
        self._events.emit(RunFailed(failure.message, failure.hint, failure.error))

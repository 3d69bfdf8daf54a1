"""Keeping the open run alive: a ServerApp that has ended without ending its run is started again.

The same run goes on, at the same round, with the last adapter, under a new Flower run. Whether a
ServerApp is alive the kernel knows (`server.life`); Flower is asked only about one that has not
begun. While a ServerApp lives, even one that stands still, nobody takes its run over.
"""

# Why: docs/adr/0034-run-life.md

from __future__ import annotations

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from craftsfl.terminal import say
from privacy.error_ids import ErrorId
from privacy.errors import CraftsflError, DeploymentError
from privacy.study.manifest import load_study
from server.clock import RunClock, SystemClock
from server.event_log import EventLog
from server.events import RunEnded
from server.life import exclusively, last_serving, now_serving
from server.readiness import agreed_roster
from server.runs import OpenRun, Runs
from server.settings import ConsortiumSettings
from server.store import check_study
from server.tables import Wish

_LOOK_SECONDS = 0.5
_BEGIN_SECONDS = 2.0  # until Flower is asked what became of a start
_FIRST_START_SECONDS = 10.0  # until a new run's first start counts as forgotten
_LONGEST_BEGIN_SECONDS = 90.0  # until a start is given up
_NO_WORDS = "it was killed, or left no words."
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 2.0, 300.0


class FlowerSide(Protocol):
    """Where Flower runs come from. Every method raises `DeploymentError`."""

    def start(self, run: int) -> int:
        """Start a Flower run that carries our run `run`; returns Flower's id."""

    def ended(self, flower_run: int) -> str | None:
        """How a Flower run ended, in words; None while it may still begin or go on."""

    def stop(self, flower_run: int) -> None:
        """End a Flower run, if it has not ended."""


class Keeper:
    """Looks after the open run of one coordinator; at most one keeper of it is active.

    `log` is what a ServerApp writes: its last line tells how one ended that left no words.
    """

    def __init__(
        self,
        settings: ConsortiumSettings,
        flower: FlowerSide,
        log: Path | None = None,
        clock: RunClock | None = None,
    ) -> None:
        self._settings = settings
        self._flower = flower
        self._log = log
        self._clock = clock or SystemClock()
        self._runs: Runs | None = None
        self._lock = ExitStack()
        self._active = False
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keeper")
        self._work: Future[None] | None = None
        self._due = 0.0
        self._told = ""
        self._progress: tuple[int, int | None] = (0, None)  # run, rounds done at the last start
        self._fruitless = 0  # starts since, that brought no round
        self._again = 0.0

    def tick(self) -> None:
        """Look, if it is time to; never waits, and raises nothing that can pass by itself."""
        work = self._work
        if work is not None:
            if not work.done():
                return
            self._work = None
            work.result()
        if self._clock.monotonic() < self._due:
            return
        self._due = self._clock.monotonic() + _LOOK_SECONDS
        if now_serving(self._settings.lock_file()) is None:
            self._work = self._threads.submit(self.look)

    def close(self) -> None:
        """Keep no longer."""
        self._threads.shutdown(wait=True)
        self._lock.close()
        if self._runs is not None:
            self._runs.close()

    def look(self) -> None:
        """Do what the open run needs, if it has no ServerApp."""
        try:
            if not self._activated():
                return
            if self._runs is None:
                self._runs = Runs(self._settings.database_url(), self._clock)
            run = self._runs.open_run()
            if run is not None:
                self._care_for(self._runs, run)
        except DeploymentError as error:  # the database or the SuperLink: it may come back
            silent = error.id == ErrorId.SUPERLINK_SILENT
            words = f"{error.message} It is asked again by itself." if silent else str(error)
            self._tell(f"The run cannot be looked after: {words}")

    def _activated(self) -> bool:
        if not self._active:
            self._active = self._lock.enter_context(exclusively(self._settings.keeper_file()))
            if not self._active:
                self._lock.close()
                self._tell("Another craftsfl rounds serve looks after this coordinator's run.")
        return self._active

    def _care_for(self, runs: Runs, run: OpenRun) -> None:
        if run.wish in (Wish.STOP, Wish.STOP_NOW):
            self._end(runs, run)
            return
        how = self._how_it_ended(run)
        if how is None or self._clock.monotonic() < self._pause(run):
            return
        trouble = self._trouble(run)
        runs.awaits(run.name, trouble)
        if trouble:
            self._tell(f"Run {run.name.number} cannot go on. {trouble}")
            return
        if run.transport is not None:
            self._flower.stop(run.transport.flower_run)
            runs.ended_with(run.name, how)
            self._tell(f"The ServerApp of run {run.name.number} has ended: {how}")
        runs.carried(run.name, self._flower.start(run.name.number))
        self._started(run)

    def _how_it_ended(self, run: OpenRun) -> str | None:
        """How the run's ServerApp ended, in words; None while one may still begin."""
        carrier, last = run.transport, last_serving(self._settings.lock_file())
        if carrier is None:  # whoever created the run is about to start it, or has ended
            fresh = self._clock.time() - run.started < _FIRST_START_SECONDS
            return None if fresh else "it was never started."
        if last is not None and (last.run, last.flower_run) == (
            run.name.number,
            carrier.flower_run,
        ):
            flower = self._flower.ended(carrier.flower_run) or ""
            return run.last_words or f"{flower} {self._error()}".strip() or _NO_WORDS
        waited = self._clock.time() - carrier.started
        if waited < _BEGIN_SECONDS:
            return None
        ended = self._flower.ended(carrier.flower_run)
        if ended is not None:
            return f"it had not begun. {ended} {self._error()}".strip()
        if waited < _LONGEST_BEGIN_SECONDS:
            return None
        return f"it did not begin within {_LONGEST_BEGIN_SECONDS:.0f} s."

    def _error(self) -> str:
        """The last line of its log, if that says that something went wrong."""
        try:
            lines = self._log.read_text("utf-8", errors="replace").split("\n") if self._log else []
        except OSError:
            return ""
        last = next((line.strip()[-300:] for line in reversed(lines) if line.strip()), "")
        return last if "error" in last.lower() else ""

    def _pause(self, run: OpenRun) -> float:
        """When it may be started again: at once, unless the last starts have brought nothing."""
        if self._progress != (run.name.number, run.rounds_done):
            self._fruitless = 0
        return self._again if self._fruitless else 0.0

    def _started(self, run: OpenRun) -> None:
        pause = min(_FIRST_PAUSE_SECONDS * 2**self._fruitless, _LONGEST_PAUSE_SECONDS)
        self._again = self._clock.monotonic() + pause
        self._fruitless += 1
        self._progress = (run.name.number, run.rounds_done)
        done = "" if run.rounds_done is None else f" It goes on after round {run.rounds_done}."
        say(f"Run {run.name.number} of {run.study}: a ServerApp was started.{done}")
        self._told = ""

    def _trouble(self, run: OpenRun) -> str:
        """Why a ServerApp could not go on with the run as things are; "" if it can."""
        try:
            study = load_study(self._settings.study)  # the same study as ever needs no more
            check_study(run.name, study)
            agreed_roster(self._settings, study)
        except CraftsflError as error:
            return str(error)
        return ""

    def _end(self, runs: Runs, run: OpenRun) -> None:
        with exclusively(self._settings.lock_file()) as nobody:
            if nobody:
                runs.stopped(run.name)
                number = str(run.name.number)
                log = EventLog(self._settings.events_file(), self._clock, run=number)
                log.emit(RunEnded(run.rounds_done or 0))
                say(f"Run {number} of {run.study} is stopped.")

    def _tell(self, text: str) -> None:
        """Say something once."""
        if text != self._told:
            self._told = text
            say(text, logging.WARNING)

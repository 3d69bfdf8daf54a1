"""The kills of one long study, which may be spread over several calls: all is kept in a folder.

The consortium's files, ledgers and round state stay in the folder; a line of `trials.jsonl` is
written after every kill, so what interrupts the benchmark costs the kill under way at most. To go
on, the same processes are started in the same folder, and the same run goes on. What was under way
when everything was stopped may be charged, like what is under way at a kill.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from bench.plane import Plane, PlanePart
from bench.plane_study import PlaneStudy
from server.event_lines import LoggedEvent
from server.events import RoundFailed, RunEvent, SessionOpened
from server.status_reader import read_status

PlaneAttempt = tuple[int, int]  # round, attempt
_TRIALS: Final = "trials.jsonl"


@dataclass(frozen=True)
class KillTrial:
    """A kill: of what, when, and how long its work stood still."""

    part: PlanePart
    seed: int
    attempt: PlaneAttempt  # that was under way, or the last one
    into: float  # seconds since that began
    seconds: float | None  # None: it did not come back
    resumed: bool
    killed: float = 0.0  # Unix seconds
    lost: int = 0  # attempts, until the next kill
    sessions: int = 0  # that were opened, until the next kill


@dataclass(frozen=True)
class Pause:
    """When everything was stopped between two calls, and what was under way then."""

    time: float  # Unix seconds
    attempt: PlaneAttempt


class LongStudy:
    """A study of `plan` in `folder`, and the kills that it has survived so far."""

    def __init__(self, folder: Path, plan: PlaneStudy) -> None:
        self.plane = Plane(folder / "plane", plan)
        self._file = folder / _TRIALS
        self.trials: list[KillTrial] = []
        self.pauses: list[Pause] = []
        for line in self._file.read_text("utf-8").splitlines() if self._file.exists() else []:
            values = json.loads(line)
            values["attempt"] = tuple(values["attempt"])
            if "seed" in values:
                self.trials.append(KillTrial(**values))
            else:
                self.pauses.append(Pause(**values))

    @property
    def over(self) -> bool:
        """Whether a kill has ended the study."""
        return any(not trial.resumed for trial in self.trials)

    def go_on(
        self, seeds: Sequence[int], most: int, kill: Callable[[Plane, int], KillTrial]
    ) -> int:
        """At most `most` more kills of `seeds`; how many there were."""
        left = list(seeds[len(self.trials) :][:most])
        if not left or self.over:
            return 0
        done = 0
        try:
            self._start()
            for seed in left:
                trial = kill(self.plane, seed)
                self._keep(trial)
                self.trials.append(trial)
                done += 1
                words = "went on" if trial.resumed else "did NOT go on"
                sys.stderr.write(f"{trial.part}, seed {seed}: the study {words}.\n")
                if self.over:
                    break
        finally:
            self.plane.stop()
        return done

    def harmed(self) -> set[PlaneAttempt]:
        """The attempts that were under way when something was killed or stopped."""
        return {trial.attempt for trial in self.trials} | {p.attempt for p in self.pauses}

    def counted(self) -> list[KillTrial]:
        """The trials, with what was lost and opened after each."""
        pauses = [pause.time for pause in self.pauses]
        return counted(self.trials, self.plane.all_events(), pauses)

    def _start(self) -> None:
        if not self._file.exists():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self.plane.start()
            self._file.touch()
            return
        newest = read_status(self.plane.settings.database_url()).history
        pause = Pause(
            max((logged.time for logged in self.plane.all_events()), default=0.0),
            (newest[-1].round, newest[-1].attempt) if newest else (0, 0),
        )
        self._keep(pause)
        self.pauses.append(pause)
        self.plane.go_on()

    def _keep(self, item: KillTrial | Pause) -> None:
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(asdict(item)) + "\n")


def counted(
    trials: Sequence[KillTrial], events: Iterable[LoggedEvent], pauses: Sequence[float] = ()
) -> list[KillTrial]:
    """`trials` with what was lost and opened after each, until the next one or the next pause."""
    ends = [*(trial.killed for trial in trials[1:]), math.inf]
    logged = list(events)

    def between(trial: KillTrial, end: float, kind: type[RunEvent]) -> int:
        return sum(isinstance(e.event, kind) and trial.killed <= e.time < end for e in logged)

    found = []
    for trial, following in zip(trials, ends, strict=True):
        # What is logged at a pause's own time is the last word before it.
        later = [math.nextafter(time, math.inf) for time in pauses if time >= trial.killed]
        end = min([following, *later])
        lost, sessions = (between(trial, end, kind) for kind in _COUNTED)
        found.append(replace(trial, lost=lost, sessions=sessions))
    return found


_COUNTED: Final[tuple[Any, Any]] = (RoundFailed, SessionOpened)

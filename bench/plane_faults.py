"""What is lost, charged or released twice when a process of a real consortium is killed.

Rows: `mode`, `fault` (which process gets SIGKILL), `studies` (that the kills of all rows were in),
`trials`, `resumed`, `double_released`, `uncaused_charges`, `lost`, `sessions`, `seconds_p95`, and
the `moments`: seed, round.attempt, seconds into it. Coordinator and hospitals are real processes
(`bench.plane`); a long study of short rounds goes on while its processes are killed at seeded
moments, each where the round happens to be. With --dir it may be spread over several calls.
In mode "pooled" the rounds are sealed steps, in "threshold" masked updates.

- resumed: trials after which the same run finished a further round, without a hand;
- double_released: attempts of a site for which two different updates left it;
- uncaused_charges: charges in a site's ledger for attempts that neither released an update nor were
  under way when something was killed;
- lost: the most attempts that were lost after one kill, until the next one;
- sessions: the trials after which a new session of sealed steps was opened (0 in mode "threshold"):
  none for a coordinator's process, one for each killed agent;
- seconds_p95: from the kill until the process does its work again. A ServerApp serves its run; a
  SuperLink answers; with a SuperExec its ServerApp dies too, so that is waited for; a gateway is
  connected to the SuperLink; an agent accepts connections on its socket.
"""

from __future__ import annotations

import random
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

import numpy as np
import psutil

from bench.output import BenchRow
from bench.plane import Plane, PlanePart
from bench.plane_long import KillTrial, LongStudy, PlaneAttempt
from bench.plane_site import RELEASED, SITE_LEDGER
from bench.plane_study import PLANE_SITES, PlaneMode, PlaneStudy
from craftsfl.processes.flower.control import answers
from craftsfl.rounds.operator import superlink_of
from privacy.ledger import State, read_ledger
from server.event_lines import LoggedEvent
from server.events import RoundFinished, RoundStarted, RunFailed, RunStarted
from server.status_reader import read_status

PLANE_PARTS: Final[tuple[PlanePart, ...]] = get_args(PlanePart)
_ROUND_SECONDS: Final = 120.0  # within which a round ends that nobody harms
_MOST_TRIALS: Final = 25  # in one pooled study
_BACK_SECONDS: Final = 120.0  # after which a process counts as not coming back


def measure_plane(
    seeds: int,
    mode: PlaneMode = "threshold",
    *,
    keep: Path | None = None,
    now: int | None = None,
) -> list[BenchRow]:
    """`seeds` kills, the processes in turn; a row for each process.

    In one study; in mode "pooled", whose studies number their attempts, in one for each 25. With
    `keep`, a folder, everything stays there, and the next call goes on: `now` bounds its kills.
    The rows are about all kills so far.
    """
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="craftsfl-plane-") as folder:
            return _measured(seeds, mode, Path(folder), seeds)
    return _measured(seeds, mode, keep / mode, seeds if now is None else now)


def _measured(seeds: int, mode: PlaneMode, folder: Path, now: int) -> list[BenchRow]:
    trials: list[KillTrial] = []
    books = Books({}, {})
    each = _MOST_TRIALS if mode == "pooled" else seeds
    studies = 0
    for first in range(0, seeds, each):
        of = range(first, min(seeds, first + each))
        attempts = 6 if mode == "threshold" else 2 * len(of)
        plan = PlaneStudy(rounds=4 * len(of) + 10, attempts=attempts, mode=mode)
        study = LongStudy(folder / str(first), plan)
        now -= study.go_on(of, now, _killed)
        if not study.trials:
            break
        studies += 1
        found = ledgers_of(study.plane, study.harmed())
        later = 2 * plan.rounds * first  # rounds of different studies are told apart
        trials += [
            replace(t, attempt=(t.attempt[0] + later, t.attempt[1])) for t in study.counted()
        ]
        books = Books(
            books.double | {later + n: count for n, count in found.double.items()},
            books.uncaused | {later + n: count for n, count in found.uncaused.items()},
        )
    return rows_of(trials, books, mode, studies)


@dataclass(frozen=True)
class Books:
    """What the sites' ledgers hold beyond what they may: how often, by round."""

    double: dict[int, int]
    uncaused: dict[int, int]


def ledgers_of(plane: Plane, harmed: set[PlaneAttempt]) -> Books:
    """Compare every site's ledger with what left it; `harmed` attempts may be charged."""
    double: dict[int, int] = {}
    uncaused: dict[int, int] = {}
    for name in PLANE_SITES:
        folder = plane.folder / name
        left: dict[PlaneAttempt, set[str]] = {}
        for line in (folder / RELEASED).read_text("utf-8").splitlines():
            _, number, attempt, digest, _ = line.split()
            left.setdefault((int(number), int(attempt)), set()).add(digest)
        for twice, _ in (key for key, digests in left.items() if len(digests) > 1):
            double[twice] = double.get(twice, 0) + 1
        for entry in read_ledger(folder / SITE_LEDGER).entries():
            key = (entry.key.round, entry.key.attempt)
            if entry.state is State.COMMITTED and key not in left and key not in harmed:
                uncaused[key[0]] = uncaused.get(key[0], 0) + 1
    return Books(double, uncaused)


def rows_of(
    trials: Iterable[KillTrial], books: Books, mode: PlaneMode = "threshold", studies: int = 1
) -> list[BenchRow]:
    """A row for each process; what is wrong in a round counts for the last kill before its end."""
    trials = list(trials)
    blamed = _Blame(trials)
    double, uncaused = blamed.shared(books.double), blamed.shared(books.uncaused)
    rows: list[BenchRow] = []
    for part in PLANE_PARTS:
        mine = [trial for trial in trials if trial.part == part]
        if not mine:
            continue
        seconds = [_BACK_SECONDS if t.seconds is None else t.seconds for t in mine]
        moments = (f"{t.seed}:{t.attempt[0]}.{t.attempt[1]}+{t.into:.1f}" for t in mine)
        rows.append(
            {
                "mode": mode,
                "fault": f"SIGKILL of the {part}",
                "studies": studies,
                "trials": len(mine),
                "resumed": sum(trial.resumed for trial in mine),
                "double_released": double.get(part, 0),
                "uncaused_charges": uncaused.get(part, 0),
                "lost": max(trial.lost for trial in mine),
                "sessions": sum(trial.sessions > 0 for trial in mine),
                "seconds_p95": round(float(np.percentile(seconds, 95)), 2),
                "moments": " ".join(moments),
            }
        )
    return rows


@dataclass(frozen=True)
class _Blame:
    trials: list[KillTrial]

    def shared(self, counts: Mapping[int, int]) -> dict[PlanePart, int]:
        found: dict[PlanePart, int] = {}
        for number, count in counts.items():
            before = [trial for trial in self.trials if trial.attempt[0] <= number]
            part = (before or self.trials)[-1 if before else 0].part
            found[part] = found.get(part, 0) + count
        return found


def _killed(plane: Plane, seed: int) -> KillTrial:
    """Kill a process somewhere in the next round, and wait until the run is well again."""
    draw = random.Random(f"plane {seed}")
    part = PLANE_PARTS[seed % len(PLANE_PARTS)]
    usual = _usual_seconds(plane)
    if plane.wait_for(_begins, 5 * _ROUND_SECONDS) is None:
        raise RuntimeError("No round has begun: is this machine too busy? The next call goes on.")
    time.sleep(draw.uniform(0.0, usual))
    victim = draw.choice(_there(plane, part))
    back = _Back(plane, part, victim)
    killed = time.time()
    victim.send_signal(signal.SIGKILL)
    attempt, into = _under_way(plane, killed)
    seconds = next((time.time() - killed for _ in _polling(_BACK_SECONDS) if back.done()), None)
    resumed = _next_round(plane)
    return KillTrial(part, seed, attempt, into, seconds, resumed, killed)


def _begins(logged: LoggedEvent) -> bool:
    return isinstance(logged.event, RoundStarted)


def _next_round(plane: Plane) -> bool:
    """Whether a round of the same run ends, before long."""
    number = str(plane.run)

    def finished(logged: LoggedEvent) -> bool:
        ended = isinstance(logged.event, RoundFinished | RunFailed)
        return ended and logged.run == number

    found = plane.wait_for(finished, 2 * _ROUND_SECONDS)
    return found is not None and isinstance(found.event, RoundFinished)


def _there(plane: Plane, part: PlanePart) -> list[psutil.Process]:
    for _ in _polling(_BACK_SECONDS):
        found = plane.processes(part)
        if found:
            return found
    raise RuntimeError(f"There is no {part} to kill.")


def _under_way(plane: Plane, now: float) -> tuple[PlaneAttempt, float]:
    """The attempt that had begun last at `now`, and for how many seconds it had gone on."""
    begun = [
        (logged.time, (logged.event.round, logged.event.attempt))
        for logged in plane.all_events()
        if isinstance(logged.event, RoundStarted) and logged.time <= now
    ]
    began, attempt = begun[-1]
    return attempt, now - began


def _usual_seconds(plane: Plane) -> float:
    found = [item for item in read_status(plane.settings.database_url()).history if item.seconds]
    return float(np.median([item.seconds for item in found[-20:]])) if found else 5.0


def _polling(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.05)


@dataclass(frozen=True)
class _Back:
    """Whether the successor of `victim` does its work."""

    plane: Plane
    part: PlanePart
    victim: psutil.Process

    def done(self) -> bool:
        works: Mapping[PlanePart, Callable[[], bool]] = {
            "serverapp": self._serves,
            "superexec": self._serves,
            "superlink": self._answers,
            "gateway": self._connected,
            "agent": self._accepts,
        }
        return works[self.part]()

    def _successors(self) -> list[psutil.Process]:
        return [p for p in self.plane.processes(self.part) if p.pid != self.victim.pid]

    def _serves(self) -> bool:
        return any(isinstance(logged.event, RunStarted) for logged in self.plane.events())

    def _answers(self) -> bool:
        return bool(self._successors()) and answers(superlink_of(self.plane.settings))

    def _connected(self) -> bool:
        if len(self._successors()) < len(PLANE_SITES):
            return False
        return all(_has_connection(process) for process in self._successors())

    def _accepts(self) -> bool:
        return all(_listens(file) for file in self.plane.sockets()) and (
            len(self._successors()) == len(PLANE_SITES)
        )


def _has_connection(process: psutil.Process) -> bool:
    try:
        return any(c.status == psutil.CONN_ESTABLISHED for c in process.net_connections("tcp"))
    except psutil.Error:
        return False


def _listens(file: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(file))
        except OSError:
            return False
    return True

"""What takes minutes: a cut link, a wrong clock, an expired certificate, a coordinator that hangs.

Rows: `fault`, `trials`, `resumed`, `named_seconds`, `desk`, `double_released`, `uncaused_charges`,
`said`; a row for each desk that has to be told. A real study of short masked rounds of three real
hospitals goes on meanwhile (`bench.plane`). All hospitals have to be in every sum, so the run
waits for the one that is harmed.

- resumed: trials after which the same run finished two more rounds, without a hand;
- named_seconds: from the moment when the harm could be noticed until the desk was told what it is,
  the longest of the trials and of the hospitals concerned; null if it was not told;
- double_released, uncaused_charges: as in `bench.plane_faults`; what was under way between the harm
  and its end may be charged;
- said: the first words at that desk.

The faults: `link cut`, of one hospital, for six minutes; `clock ahead` and `clock behind`, one
hospital's by ten minutes; `certificate expires`, and every connection has to be made anew;
`coordinator hangs`, SuperLink and ServerApp by SIGSTOP, for two minutes. The link is cut in a
network namespace, which takes root: where none can be made, that row is missing.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, get_args

from bench.far_site import (
    FAR_SITE,
    OPERATOR,
    Authority,
    Cable,
    HarmedPlane,
    NoCableError,
    cable,
)
from bench.moved_clock import write_shift
from bench.output import BenchRow
from bench.plane_faults import ledgers_of
from bench.plane_study import PLANE_SITES, PlaneStudy
from server.event_lines import LoggedEvent
from server.events import RoundFinished
from server.status_reader import read_status

Disaster = Literal[
    "link cut", "clock ahead", "clock behind", "certificate expires", "coordinator hangs"
]
DISASTERS: Final[tuple[Disaster, ...]] = get_args(Disaster)
_CUT, _HANGS, _OFF = 360.0, 120.0, 600.0  # seconds
_VALID: Final = 60.0  # seconds that a certificate is valid for, from the harm on
_CLOCK_STAYS: Final = 30.0  # seconds after it was named
_PATIENCE: Final = 180.0  # seconds for a word, or for a round
_STUDY: Final = PlaneStudy(rounds=400, attempts=6)


@dataclass(frozen=True)
class ToldDesk:
    """A desk that has to be told: after how many seconds it was, and the words."""

    name: str
    seconds: float | None
    said: str


@dataclass(frozen=True)
class DisasterTrial:
    """What one disaster led to."""

    told: tuple[ToldDesk, ...]
    resumed: bool
    double: int
    uncaused: int


def measure_disasters(trials: int, only: str = "") -> list[BenchRow]:
    """The rows of each fault that begins with `only`, of `trials` studies each."""
    rows: list[BenchRow] = []
    for fault in (one for one in DISASTERS if one.startswith(only)):
        found = []
        for _ in range(trials):
            with tempfile.TemporaryDirectory(prefix="craftsfl-disaster-") as folder:
                try:
                    found.append(disaster(fault, Path(folder) / "plane"))
                except NoCableError as error:
                    sys.stderr.write(f"{fault} was not measured: {error}.\n")
                    continue
            sys.stderr.write(f"{fault}: {found[-1]}\n")
        rows += disaster_rows(fault, found)
    return rows


def disaster_rows(fault: Disaster, found: Sequence[DisasterTrial]) -> list[BenchRow]:
    """What the trials of a fault sum up to: a row for the hospitals, one for the operator."""
    rows: list[BenchRow] = []
    for desk, names in (("hospital", PLANE_SITES), (OPERATOR, (OPERATOR,))):
        told = [one for trial in found for one in trial.told if one.name in names]
        seconds = [one.seconds for one in told if one.seconds is not None]
        if told:
            rows.append(
                {
                    "fault": fault,
                    "trials": len(found),
                    "resumed": sum(trial.resumed for trial in found),
                    "named_seconds": (
                        round(max(seconds), 1) if len(seconds) == len(told) else None
                    ),
                    "desk": desk,
                    "double_released": sum(trial.double for trial in found),
                    "uncaused_charges": sum(trial.uncaused for trial in found),
                    "said": next((one.said for one in told if one.said), ""),
                }
            )
    return rows


def disaster(fault: Disaster, folder: Path) -> DisasterTrial:
    """Let one happen to a consortium in `folder`. Raises `NoCableError`."""
    if fault == "link cut":
        with cable() as line:
            plane = HarmedPlane(folder, _STUDY, far=line, authority=Authority(line.here))
            return _survived(plane, partial(_link_cut, line))
    if fault == "certificate expires":
        authority = Authority()
        plane = HarmedPlane(folder, _STUDY, authority=authority)
        return _survived(plane, partial(_certificate_expires, authority))
    if fault == "coordinator hangs":
        return _survived(HarmedPlane(folder, _STUDY), _coordinator_hangs)
    clock = folder.with_name("clock")
    write_shift(clock, 0.0)
    ahead = _OFF if fault == "clock ahead" else -_OFF
    return _survived(HarmedPlane(folder, _STUDY, clock=clock), partial(_clock_off, clock, ahead))


def _link_cut(line: Cable, plane: HarmedPlane) -> list[ToldDesk]:
    desks = _Desks(plane)
    line.cut()
    told = desks.hear(
        {FAR_SITE: ("The SuperLink at", "No SuperLink at"), OPERATOR: ("is not connected",)}
    )
    desks.wait_since(_CUT)
    line.mend()
    return told


def _clock_off(clock: Path, ahead: float, plane: HarmedPlane) -> list[ToldDesk]:
    words = "ahead of the coordinator's" if ahead > 0 else "behind the coordinator's"
    desks = _Desks(plane)
    write_shift(clock, ahead)
    told = desks.hear({FAR_SITE: (words,), OPERATOR: ("is not connected",)})
    time.sleep(_CLOCK_STAYS)
    write_shift(clock, 0.0)
    return told


def _certificate_expires(authority: Authority, plane: HarmedPlane) -> list[ToldDesk]:
    authority.sign(plane.tls, _VALID)
    signed = time.monotonic()
    _kill_superlink(plane)  # its successor shows that one
    time.sleep(max(0.0, signed + _VALID + 1 - time.monotonic()))
    desks = _Desks(plane)
    _kill_superlink(plane)  # every connection has to be made anew
    told = desks.hear({**dict.fromkeys(PLANE_SITES, ("has expired",)), OPERATOR: ("expired",)})
    authority.sign(plane.tls, 86_400.0)
    _kill_superlink(plane)
    return told


def _kill_superlink(plane: HarmedPlane) -> None:
    for process in plane.processes("superlink"):
        process.kill()


def _coordinator_hangs(plane: HarmedPlane) -> list[ToldDesk]:
    hung = [p for part in ("superlink", "serverapp") for p in plane.processes(part)]
    desks = _Desks(plane)
    for process in hung:
        process.send_signal(signal.SIGSTOP)
    try:
        told = desks.hear(
            {**dict.fromkeys(PLANE_SITES, ("does not answer",)), OPERATOR: ("does not answer",)}
        )
        desks.wait_since(_HANGS)
    finally:
        for process in hung:
            process.send_signal(signal.SIGCONT)
    return told


class _Desks:
    """What the desks of `plane` are told from now on."""

    def __init__(self, plane: HarmedPlane) -> None:
        self._plane = plane
        self._before = {name: Counter(plane.desk(name)) for name in (*PLANE_SITES, OPERATOR)}
        self._began = time.monotonic()

    def hear(self, words: Mapping[str, tuple[str, ...]]) -> list[ToldDesk]:
        """Wait until each desk of `words` was told one of its words, or for `_PATIENCE`."""
        told: dict[str, ToldDesk] = {}
        while len(told) < len(words) and self._seconds() < _PATIENCE:
            for name in words.keys() - told.keys():
                lines = (Counter(self._plane.desk(name)) - self._before[name]).keys()
                found = [line for line in lines if any(word in line for word in words[name])]
                if found:
                    told[name] = ToldDesk(name, self._seconds(), found[0])
            time.sleep(0.1)
        return [told.get(name, ToldDesk(name, None, "")) for name in words]

    def wait_since(self, seconds: float) -> None:
        """Wait until `seconds` after this was made."""
        time.sleep(max(0.0, seconds - self._seconds()))

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _survived(
    plane: HarmedPlane, harm: Callable[[HarmedPlane], Iterable[ToldDesk]]
) -> DisasterTrial:
    try:
        plane.start()
        if not _goes_on(plane):
            raise RuntimeError(f"No round came about: {plane.desk(OPERATOR)[-5:]}")
        first = max(_attempts(plane))
        told = tuple(harm(plane))
        last = max(_attempts(plane))
        resumed = _goes_on(plane)
        attempts = _attempts(plane)
    finally:
        plane.stop()
    books = ledgers_of(plane, {one for one in attempts if first <= one <= last})
    return DisasterTrial(told, resumed, sum(books.double.values()), sum(books.uncaused.values()))


def _goes_on(plane: HarmedPlane) -> bool:
    """Whether two more rounds end: the first may have been under way."""
    plane.events()
    return all(plane.wait_for(_round_ended, _PATIENCE) is not None for _ in range(2))


def _round_ended(logged: LoggedEvent) -> bool:
    return isinstance(logged.event, RoundFinished)


def _attempts(plane: HarmedPlane) -> list[tuple[int, int]]:
    history = read_status(plane.settings.database_url(), plane.run).history
    return [(item.round, item.attempt) for item in history]

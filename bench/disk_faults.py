"""What happens where a disk is full while a real study goes on: the kernel says so, not a fake.

Rows: `fault` (whose disk), `trials`, `resumed`, `stopped_in_words`, `uncaused_charges`,
`double_released`, `tracebacks`, `said`. Coordinator and hospitals are the processes of
`bench.plane`; the folder of one of them is a small file system of its own (tmpfs, which takes
root), filled to its last byte after a round and freed again some seconds later.

- resumed: trials after which the same run finished a further round, without a hand;
- stopped_in_words: trials after which the run had ended, with a reason;
- uncaused_charges: charges in a site's ledger for attempts that neither released an update nor were
  under way while the disk was full; double_released: as in `bench.plane_faults`;
- tracebacks: lines of the processes' logs that begin one;
- said: what the processes' logs said of it, the last such line.

Where nothing can be mounted there are no rows: `can_mount` says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from bench.output import BenchRow
from bench.plane import Plane
from bench.plane_faults import ledgers_of
from bench.plane_site import RELEASED
from bench.plane_study import PLANE_SITES, PlaneStudy
from server.event_lines import LoggedEvent
from server.events import RoundFinished, RunFailed
from server.status_reader import read_status

DiskOwner = Literal["agent", "coordinator", "mlflow"]
DISK_OWNERS: Final[tuple[DiskOwner, ...]] = get_args(DiskOwner)
_MEGABYTE: Final = 2**20
# A coordinator refuses to start with fewer than 200 MB.
_SIZES: Final[dict[DiskOwner, int]] = {
    "agent": 16 * _MEGABYTE,
    "coordinator": 320 * _MEGABYTE,
    "mlflow": 32 * _MEGABYTE,
}
_FULL_SECONDS: Final = 20.0  # for so long the disk stays full
_ROUND_SECONDS: Final = 400.0  # within which a round ends that nobody harms
_FILLER: Final = "filler"
_WORDS: Final = re.compile(r"(?i)no space|disk|full\b|cannot be written|MB are free")
_TRACE: Final = "Traceback (most recent call last)"
_SHOWN_CHARACTERS: Final = 3000  # of each, on standard error
# MLflow's own processes write theirs to a log that nobody is shown.
_SHOWN: Final = "*.log"


def can_mount() -> bool:
    """Whether this process may mount a file system."""
    with tempfile.TemporaryDirectory() as folder:
        if not _mount(Path(folder), _MEGABYTE):
            return False
        _unmount(Path(folder))
        return True


@dataclass
class SmallDiskPlane(Plane):
    """A plane in which one desk's folder is a small file system of its own."""

    owner: DiskOwner = "agent"

    @property
    def disk(self) -> Path:
        """The folder of the small disk."""
        names = {"agent": PLANE_SITES[0], "coordinator": "coordinator", "mlflow": "mlflow"}
        return self.folder / names[self.owner]

    def _write(self) -> None:
        super()._write()
        if self.owner == "mlflow":
            self.disk.mkdir()
            uri = f"sqlite:///{self.disk / 'mlflow.db'}"
            with self.consortium.open("a", encoding="utf-8") as stream:
                stream.write(f'\n[tracking]\nuri = "{uri}"\n')
        aside = self.folder / "aside"
        shutil.move(self.disk, aside)
        self.disk.mkdir()
        if not _mount(self.disk, _SIZES[self.owner]):
            raise RuntimeError("No file system can be mounted here.")
        shutil.copytree(aside, self.disk, dirs_exist_ok=True)
        if self.owner == "agent":  # the benchmark's own record is not on the disk that it fills
            record = self.folder / RELEASED
            record.touch()
            (self.disk / RELEASED).symlink_to(record)
        shutil.rmtree(aside)

    def fill(self) -> None:
        """Take the last byte of the small disk."""
        with (self.disk / _FILLER).open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(bytes(4096))

    def free(self) -> None:
        """Give it back."""
        (self.disk / _FILLER).unlink()


@dataclass(frozen=True)
class DiskTrial:
    """What one full disk led to."""

    resumed: bool
    stopped: str  # why the run ended; "" if it did not
    uncaused: int
    double: int
    tracebacks: int
    said: str


def measure_disk(trials: int, owners: tuple[DiskOwner, ...] = DISK_OWNERS) -> list[BenchRow]:
    """A row for each of `owners`, each of `trials` full disks in studies of their own."""
    return [disk_row(owner, [_filled(owner) for _ in range(trials)]) for owner in owners]


def disk_row(owner: DiskOwner, found: list[DiskTrial]) -> BenchRow:
    """What the trials of one owner sum up to."""
    return {
        "fault": f"disk full: {owner}",
        "trials": len(found),
        "resumed": sum(trial.resumed for trial in found),
        "stopped_in_words": sum(bool(trial.stopped) for trial in found),
        "uncaused_charges": sum(trial.uncaused for trial in found),
        "double_released": sum(trial.double for trial in found),
        "tracebacks": sum(trial.tracebacks for trial in found),
        "said": next((trial.said for trial in found if trial.said), ""),
    }


def _filled(owner: DiskOwner) -> DiskTrial:
    with _folder() as folder:
        plane = SmallDiskPlane(
            folder / "plane", PlaneStudy(rounds=40, attempts=20, mode="pooled"), owner=owner
        )
        try:
            plane.start()
            if plane.wait_for(_finished, _ROUND_SECONDS) is None:
                raise RuntimeError(f"No round came about.\n{_logs(plane)[-2000:]}")
            return _trial(plane)
        finally:
            plane.stop()
            _unmount(plane.disk)


def _trial(plane: SmallDiskPlane) -> DiskTrial:
    first = max(_attempts(plane))
    plane.fill()
    sys.stderr.write(f"{plane.owner}: the disk is full.\n")
    time.sleep(_FULL_SECONDS)
    last = max(_attempts(plane))
    plane.free()
    plane.events()  # what came about while it was full counts for nothing
    ended = plane.wait_for(lambda e: _finished(e) or _failed(e), 2 * _ROUND_SECONDS)
    stopped = ended.event.reason if ended and isinstance(ended.event, RunFailed) else ""
    attempts = _attempts(plane)
    plane.stop()
    books = ledgers_of(plane, {one for one in attempts if first <= one <= last})
    text = _logs(plane)
    said = [line.strip() for line in text.splitlines() if _WORDS.search(line)]
    for trace in text.split(_TRACE)[1:]:
        sys.stderr.write(f"{_TRACE}{trace[:_SHOWN_CHARACTERS]}\n")
    return DiskTrial(
        resumed=ended is not None and not stopped,
        stopped=stopped,
        uncaused=sum(books.uncaused.values()),
        double=sum(books.double.values()),
        tracebacks=text.count(_TRACE),
        said=said[-1][:300] if said else "",
    )


def _attempts(plane: Plane) -> list[tuple[int, int]]:
    history = read_status(plane.settings.database_url(), plane.run).history
    return [(item.round, item.attempt) for item in history]


def _finished(logged: LoggedEvent) -> bool:
    return isinstance(logged.event, RoundFinished)


def _failed(logged: LoggedEvent) -> bool:
    return isinstance(logged.event, RunFailed)


def _logs(plane: Plane) -> str:
    files = sorted(plane.folder.rglob(_SHOWN))
    return "\n".join(file.read_text("utf-8", "replace") for file in files)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="craftsfl-small-") as folder:
        yield Path(folder)


def _mount(folder: Path, size: int) -> bool:
    argv = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)

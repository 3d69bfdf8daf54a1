"""One supervisor at a time for a folder, and an end to what a killed one has left running.

Guarantees, each with a test:

- Of two that start together, one goes on and the other is told which process holds the folder.
- The lock goes with its holder, however that ends; it is never inherited by what it starts.
- A process is ended only if it is provably one that an earlier supervisor of this folder started:
  its number, its start to the clock tick and the machine's boot are as recorded, in a file that
  nobody else can write, and that was written in this very folder. A copy of the folder of one
  that goes on ends nothing.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import psutil

from craftsfl.terminal import say
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from privacy.files import lock, read_private, told_if_unwritable, write_private

LEFTOVER_SECONDS: Final = 12.0
_LARGEST_RECORD: Final = 1_000_000
_STARTED_AT: Final = 22 - 3  # its place in /proc/PID/stat, behind the name in parentheses
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class _Mark:
    """What tells a process from every other one, past and future."""

    name: str
    pid: int
    started: str  # clock ticks after boot: setting the clock changes nothing
    boot: str


class StartedNote:
    """The processes that this supervisor has started, on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks: list[_Mark] = []

    def add(self, name: str, pid: int) -> None:
        """Note a process that was just started; raises `DeploymentError`."""
        mark = _mark_of(name, pid)
        if mark is not None:
            self._marks = [one for one in self._marks if _is_alive(one)] + [mark]
            self._write()

    def clear(self) -> None:
        """Everything has ended."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        folder = _folder_of(self._path)
        text = json.dumps([{**asdict(mark), "folder": folder} for mark in self._marks])
        hint = "Check the folder's owner and the free space."
        with told_if_unwritable(self._path, hint, DeploymentError, id=ErrorId.FOLDER_UNUSABLE):
            write_private(self._path, text.encode())


@contextmanager
def sole_supervisor(folder: Path, part: str) -> Iterator[StartedNote]:
    """Hold `part` of `folder` while the block runs, and end what an earlier holder left running.

    Raises `DeploymentError` if another process holds it.
    """
    place, noted = folder / f"{part}.lock", folder / f"{part}.json"
    try:
        held = lock(place)
    except BlockingIOError:
        raise _taken(folder, place) from None
    except OSError as error:
        raise DeploymentError(
            f"{folder} cannot be locked: {error.strerror}.",
            "Check the folder's owner.",
            id=ErrorId.FOLDER_UNUSABLE,
        ) from None
    try:
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
        record = StartedNote(noted)
        end_predecessors(noted)
        yield record
        record.clear()
    finally:
        os.close(held)


def end_predecessors(record: Path) -> None:
    """End the recorded processes that still live, with their children: SIGTERM, then SIGKILL."""
    left = [mark for mark in _read(record) if _is_alive(mark)]
    if not left:
        return
    names = ", ".join(f"{mark.name} ({mark.pid})" for mark in left)
    say(f"Ending what an earlier one that was killed has left running: {names}.")
    family = [process for mark in left for process in _family(mark)]
    for process in family:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=LEFTOVER_SECONDS)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=LEFTOVER_SECONDS)


def _taken(folder: Path, place: Path) -> DeploymentError:
    try:
        holder = read_private(place, 100).decode("ascii", "replace").strip()
    except OSError:
        holder = ""
    return DeploymentError(
        f"Another process{f' ({holder})' if holder.isdecimal() else ''} serves {folder} already.",
        "Nothing is left to do; or end that one first (Ctrl-C where it runs).",
        id=ErrorId.COORDINATOR_RUNNING,
    )


def _read(record: Path) -> list[_Mark]:
    """The recorded marks; a record that is missing or odd proves nothing, so none."""
    try:
        items, folder = json.loads(read_private(record, _LARGEST_RECORD)), _folder_of(record)
        return [
            _Mark(str(one["name"]), int(one["pid"]), str(one["started"]), str(one["boot"]))
            for one in items
            if one["folder"] == folder
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _folder_of(record: Path) -> str:
    """What tells the folder of a record from every copy of it; raises `OSError`."""
    found = record.parent.stat()
    return f"{found.st_dev}:{found.st_ino}"


def _mark_of(name: str, pid: int) -> _Mark | None:
    try:
        return _Mark(name, pid, _started(pid), _boot())
    except (OSError, psutil.Error):  # it has ended already
        return None


def _started(pid: int) -> str:
    """When a process started, as the kernel counts; raises `OSError` or `psutil.Error`."""
    if not _BOOT.exists():
        return str(psutil.Process(pid).create_time())
    text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    return text.rpartition(")")[2].split()[_STARTED_AT]


def _is_alive(mark: _Mark) -> bool:
    """Whether the very process that was marked is there (a dead one nobody waited for is not)."""
    if mark.pid == os.getpid() or _mark_of(mark.name, mark.pid) != mark:
        return False
    try:
        return bool(psutil.Process(mark.pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _family(mark: _Mark) -> list[psutil.Process]:
    """The process and its descendants; psutil looks at start times again before each signal."""
    try:
        process = psutil.Process(mark.pid)
        found = [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
    return found if _is_alive(mark) else []


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:  # gone, which is what we want
        return


def _boot() -> str:
    """This boot of the machine; '' where the system does not say."""
    try:
        return _BOOT.read_text("ascii").strip()
    except OSError:
        return ""

"""Whether a ServerApp serves a run now, and how one ends without ending its run.

A ServerApp holds a lock on a file in the state folder from its start to its end, however it ends:
the kernel releases it. So nobody has to believe a heartbeat, and two ServerApps never serve one
state folder: one that was stopped for minutes and wakes up finds its run as it left it.
"""

# Why: docs/adr/0034-run-life.md

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from privacy.files import try_lock

_RETRY_SECONDS = 0.1
_PATIENCE_SECONDS = 5.0  # whoever looks at the lock holds it for a moment


class RunInterrupted(FederationError):
    """This ServerApp ends and its run does not: another one goes on with it."""

    default_id = ErrorId.RUN_INTERRUPTED


class RunStopped(FederationError):
    """The operator has stopped the run."""

    default_id = ErrorId.RUN_STOPPED


@dataclass(frozen=True, slots=True)
class Serving:
    """A ServerApp: the run that it serves, the Flower run that carries it, its process."""

    run: int
    flower_run: int
    pid: int


@contextmanager
def serving(lock: Path, run: int, flower_run: int) -> Iterator[None]:
    """Hold `lock` as the ServerApp of `run`. Raises `RunInterrupted` if another one holds it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+b") as file:
        end = time.monotonic() + _PATIENCE_SECONDS
        while not try_lock(file.fileno()):
            if time.monotonic() >= end:
                raise RunInterrupted(
                    "Another ServerApp serves this coordinator's state folder.",
                    "Nothing to do: this one has ended without doing anything.",
                )
            time.sleep(_RETRY_SECONDS)
        file.truncate(0)
        file.write(json.dumps(asdict(Serving(run, flower_run, os.getpid()))).encode())
        file.flush()
        yield


def now_serving(lock: Path) -> Serving | None:
    """The ServerApp that is alive, None if there is none."""
    held, last = _look(lock)
    return last if held else None


def last_serving(lock: Path) -> Serving | None:
    """The ServerApp that is alive or was the last one; None if there was none yet."""
    return _look(lock)[1]


@contextmanager
def exclusively(lock: Path) -> Iterator[bool]:
    """Whether this process alone holds `lock` until the block ends; False if another one does."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+b") as file:
        yield try_lock(file.fileno())


def is_held(lock: Path) -> bool:
    """Whether a process holds `lock` now."""
    return _look(lock)[0]


def _look(lock: Path) -> tuple[bool, Serving | None]:
    """Whether the lock is held, and what its newest holder wrote."""
    try:
        with lock.open("rb") as file:
            held = not try_lock(file.fileno(), shared=True)
            data = file.read()
    except FileNotFoundError:
        return False, None
    try:
        values = json.loads(data)
        return held, Serving(int(values["run"]), int(values["flower_run"]), int(values["pid"]))
    except (ValueError, KeyError, TypeError):  # caught between truncating and writing
        return held, Serving(0, 0, 0) if held else None

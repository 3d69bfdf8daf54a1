"""Keeping processes running: the loop of `craftsfl site serve` and `craftsfl rounds serve`.

A process that dies is restarted after a pause, which doubles for as long as it dies young, to at
most 20 s: a coordinator whose processes are killed again and again serves again within 30 s. If one
whose refusal is `decisive` rejects its settings (exit status 1 or 2 before it has served), the
command ends with that process's own message: a restart would not help.
"""

from __future__ import annotations

import logging
import math
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from craftsfl.processes.supervisor import Command, StartedProcess, Supervisor
from craftsfl.terminal import say
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError

# A SuperLink rejects a SuperNode that returns within 60 s of being killed. A gateway goes on as the
# same node, and like an agent it is to answer within 5 s of being killed.
FIRST_PAUSE_SECONDS = {"supernode": 65.0, "gateway": 0.2, "agent": 0.2}
DEFAULT_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 20.0
SETTLED_SECONDS = 20.0  # of life, after which a death is not one of a series
_REFUSES_WITHIN_SECONDS = 60.0  # on a machine that is busy while the process starts
_POLL_SECONDS = 0.25
_LONGEST_WHY = 300  # characters
REFUSED_SETTINGS = (1, 2)


@dataclass
class _Watched:
    running: StartedProcess
    since: float
    failures: int = 0
    restart_at: float | None = None


def keep_running(
    commands: Sequence[Command],
    supervisor: Supervisor,
    tick: Callable[[], None],
    decisive: Callable[[Command], bool] = lambda command: True,
) -> None:
    """Run `commands` until interrupted, restarting what dies; calls `tick` four times a second.

    Raises `DeploymentError`, with the end of the log, if one of the `decisive` ones rejects its
    settings.
    """
    watched = [_Watched(_started(command, supervisor), time.monotonic()) for command in commands]
    while True:
        for item in watched:
            _revive(item, supervisor, decisive)
        tick()
        time.sleep(_POLL_SECONDS)


def _started(command: Command, supervisor: Supervisor) -> StartedProcess:
    say(f"{command.name}: {shlex.join(command.argv)}", logging.DEBUG)
    return supervisor.start(command)


def _revive(item: _Watched, supervisor: Supervisor, decisive: Callable[[Command], bool]) -> None:
    now = time.monotonic()
    if item.restart_at is not None:
        if now >= item.restart_at:
            item.running = _started(item.running.command, supervisor)
            item.since, item.restart_at = now, None
        return
    code = item.running.exit_code()
    if code is None:
        return
    lived = now - item.since
    early = code in REFUSED_SETTINGS and lived < _REFUSES_WITHIN_SECONDS and item.failures == 0
    if early and decisive(item.running.command):
        raise _ended(item.running)
    item.failures = 1 if lived > SETTLED_SECONDS else item.failures + 1
    pause = pause_before(item.running.name, item.failures)
    supervisor.stop_one(item.running)
    item.restart_at = now + pause
    say(
        f"{item.running.name} ended with status {code}{_why(item.running)}; restarting it in "
        f"{pause:.0f} s.",
        logging.WARNING,
    )


def pause_before(name: str, failures: int) -> float:
    """Seconds before the process `name` is started again, which has died `failures` times young."""
    first = FIRST_PAUSE_SECONDS.get(name.split()[-1], DEFAULT_PAUSE_SECONDS)
    doublings = min(failures - 1, 16)  # enough for any pause, and never a number without end
    return max(first, min(math.ldexp(first, doublings), LONGEST_PAUSE_SECONDS))


def _why(running: StartedProcess) -> str:
    """The newest line of its log that speaks of an error, in brackets; "" if there is none.

    Nothing for one that a signal has ended: what it last said is not why.
    """
    if (running.exit_code() or 0) <= 0:
        return ""
    lines = (line.strip() for line in reversed(running.log_tail().splitlines()))
    found = next((line for line in lines if "error" in line.lower()), "")
    return f" ({found[-_LONGEST_WHY:]})" if found else ""


def _ended(running: StartedProcess) -> DeploymentError:
    return DeploymentError(
        f"{running.name} ended with status {running.exit_code()}:\n{running.log_tail()}",
        f"The whole log is {running.command.log}.",
        id=ErrorId.PROCESS_ENDED,
    )

"""Starting, watching and ending other processes, with all their children.

Every process gets its own session, so that Ctrl-C reaches only this program, which then ends them
in reverse order. Nothing that was started here survives `stop`.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

import psutil

from client.agent.isolation import UMASK
from craftsfl.processes.lifeline import PARENT
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from privacy.visible import visible

TERMINATION_SECONDS = 12.0
TAIL_LINES = 12
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")  # Flower's logs have them, also in files
_UVICORN = re.compile(
    r"[A-Z]+: {2,}(?:Started server|Finished server|Waiting for application|Application (?:st|sh)"
    r"|Uvicorn running|Shutting down|\S+:\d+ - \")"
)
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Command:
    """A program to run: its name for people, argument vector, environment and log file.

    `user`: whom it runs as, if this process is root's; None: the same user as this process.
    `tied`: it is a program of ours that calls `end_with_parent`. Others are not told who started
    them: what they start in turn, such as a coordinator's bundle, would inherit it.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    user: str | None = None
    tied: bool = False

    @property
    def full_argv(self) -> tuple[str, ...]:
        """`argv`, preceded by the program that changes the user if one is named."""
        if self.user is None:
            return self.argv
        become = (sys.executable, "-P", "-m", "craftsfl.processes.as_user")
        return (*become, self.user, str(self.log), *self.argv)


@dataclass(frozen=True)
class StartedProcess:
    """A started command."""

    command: Command
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        """The command's name."""
        return self.command.name

    def exit_code(self) -> int | None:
        """The exit status, or None while it runs."""
        return self.process.poll()

    def log_tail(self) -> str:
        """The last lines of its log, without colours and with other control signs spelled out.

        A web server's own lines say nothing to a person, and would crowd out those that do.
        """
        log = self.command.log
        try:
            if log.is_symlink() or not log.is_file():  # another user may have put it there
                return ""
            lines = log.read_text("utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        plain = (_COLOURS.sub("", line) for line in lines)
        told = [line for line in plain if not _UVICORN.match(line)]
        return visible("\n".join(told[-TAIL_LINES:]), keep="\n\t")


class Supervisor:
    """Owns processes from start to end; a context manager that leaves none behind.

    `noted` is called with the name and number of each process that was started, once it can be
    ended: `StartedNote.add` of predecessors.py, for whoever comes after a killed supervisor.
    """

    def __init__(self, noted: Callable[[str, int], None] = lambda name, pid: None) -> None:
        self._running: list[StartedProcess] = []
        self._noted = noted

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, command: Command) -> StartedProcess:
        """Start `command`; its output is appended to its log."""
        with _interrupts_held():  # once a process exists, it is on the list
            running = StartedProcess(command, _process(command))
            self._running.append(running)
        self._noted(running.name, running.process.pid)
        return running

    def dead(self) -> list[StartedProcess]:
        """Those that ended on their own."""
        return [running for running in self._running if running.exit_code() is not None]

    def check(self) -> None:
        """Raise `DeploymentError`, with the end of its log, if a process has died."""
        for running in self.dead():
            raise DeploymentError(
                f"{running.name} ended with status {running.exit_code()}:\n{running.log_tail()}",
                f"The whole log is {running.command.log}.",
                id=ErrorId.PROCESS_ENDED,
            )

    def stop_one(self, running: StartedProcess) -> None:
        """End one process and its children."""
        if running in self._running:
            self._running.remove(running)
        _end([running])

    def stop(self) -> None:
        """End all: SIGTERM, newest first, then SIGKILL for whatever outlives the grace period."""
        running, self._running = self._running[::-1], []
        _end(running)


def _process(command: Command) -> subprocess.Popen[bytes]:
    try:
        with _output(command) as log:
            return subprocess.Popen(
                command.full_argv,
                env={**command.env, **({PARENT: str(os.getpid())} if command.tied else {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=UMASK,
            )
    except OSError as error:
        raise DeploymentError(
            f"{command.name} cannot be started: {error.strerror}.", f"Check {command.argv[0]}."
        ) from None


def _output(command: Command) -> IO[bytes]:
    """Its log. That of another user is opened by that user; this shows what goes wrong before."""
    if command.user is not None:
        return os.fdopen(os.dup(2), "wb")
    command.log.parent.mkdir(parents=True, exist_ok=True)
    return command.log.open("ab")


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold back signals that Python handles until the block ends, then raise KeyboardInterrupt.

    Uses handlers rather than the signal mask, which a new process would inherit.
    """
    held: list[int] = []
    numbers = [number for number in INTERRUPTS if callable(signal.getsignal(number))]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # only the main thread is interrupted
    before = {n: signal.signal(n, lambda number, frame: held.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        raise KeyboardInterrupt


def _end(group: list[StartedProcess]) -> None:
    family = _families(group)
    for running in group:
        if running.exit_code() is None:
            running.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + TERMINATION_SECONDS
    for running in group:
        try:
            running.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()
    # Children are looked up before and after: one may have started while its parent was ending.
    leftover = [child for child in family + _families(group) if child.is_running()]
    for child in leftover:
        _quietly(child.terminate)
    _, alive = psutil.wait_procs(leftover, timeout=2.0)
    for child in alive:
        _quietly(child.kill)
    psutil.wait_procs(alive, timeout=2.0)


def _families(group: list[StartedProcess]) -> list[psutil.Process]:
    """All descendants, and all members of the processes' sessions whose parents are gone."""
    sessions = {running.process.pid for running in group}
    found: dict[int, psutil.Process] = {}
    for running in group:
        for child in _children(running.process.pid):
            found[child.pid] = child
    for process in psutil.process_iter():
        if process.pid not in sessions and _session(process.pid) in sessions:
            found[process.pid] = process
    return list(found.values())


def _children(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:  # already gone
        return []


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _quietly(action: Callable[[], object]) -> None:
    """Run `action`; if the process is already gone, that is what we want."""
    try:
        action()
    except psutil.Error:
        return


def wait_until(
    ready: Callable[[], bool],
    *,
    what: str,
    supervisor: Supervisor,
    timeout: float,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Poll `ready` (10 times a second) while every supervised process lives.

    Raises `DeploymentError` after `timeout` seconds or when a process dies.
    """
    deadline = time.monotonic() + timeout
    while not ready():
        supervisor.check()
        if time.monotonic() > deadline:
            raise DeploymentError(
                f"{what} did not come up within {timeout:.0f} s.",
                "Look at the log files.",
                id=ErrorId.PROCESS_ENDED,
            )
        tick()
        time.sleep(0.1)


def port_open(host: str, port: int) -> bool:
    """Whether something accepts TCP connections there."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def claim_port(host: str, wanted: int | None, where: str = "port in consortium.toml") -> int:
    """A free TCP port: `wanted`, or any. Raises `DeploymentError` if `wanted` is taken.

    `where`: what a person changes to have another one.
    """
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if host == "::":  # it is to be free for both families
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            probe.bind((host, wanted or 0))
        except OSError as error:
            raise DeploymentError(
                f"Port {wanted} on {host} cannot be used: {error.strerror}.",
                f"Stop the program that uses it, or choose another port: {where}.",
                id=ErrorId.PORT_TAKEN,
            ) from None
        return int(probe.getsockname()[1])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, so that every `finally` runs."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

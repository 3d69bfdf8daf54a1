"""What stands still, said at the desk of `rounds serve`: a silent SuperLink, a stopped ServerApp.

What dies is started again, and that is said. A process that hangs, or was stopped (SIGSTOP), lives:
nobody takes its place, and without this nobody at the coordinator would be told.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import psutil

from craftsfl.processes.stopped import ANOTHER_ONE, stands_still, stopped_words
from craftsfl.terminal import say
from privacy.errors import DeploymentError

_LOOK_SECONDS: Final = 10.0
_LOOK_AT_LOG: Final = "If this lasts, look at superlink.log and"
_ANEW: Final = "it is then started anew, and the run goes on"
_SILENT_SECONDS: Final = 15.0  # without an answer: longer than a restart takes


class StandstillWatch:
    """Says once that something stands still, and once that it goes on.

    `ask` asks the SuperLink for anything and raises `DeploymentError`; `superlink` and `serverapp`
    are the numbers of their processes, None where there is none or it is not known here.
    """

    def __init__(
        self,
        ask: Callable[[], object],
        superlink: Callable[[], int | None],
        serverapp: Callable[[], int | None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._superlink, self._serverapp, self._clock = ask, superlink, serverapp, clock
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="standstill")
        self._work: Future[None] | None = None
        self._due = 0.0
        self._answered = False  # one that is still starting has not begun to be silent
        self._silent: float | None = None  # since when
        self._said: set[str] = set()

    def tick(self) -> None:
        """Look, if it is time to; never waits."""
        work = self._work
        if work is not None:
            if not work.done():
                return
            self._work = None
            work.result()
        if self._clock() >= self._due:
            self._due = self._clock() + _LOOK_SECONDS
            self._work = self._threads.submit(self.look)

    def look(self) -> None:
        """Ask the SuperLink, which may take as long as its client waits, and look at both."""
        self._look_at_serverapp()
        began = self._clock()
        try:
            self._ask()
        except DeploymentError as error:
            self._silent = began if self._silent is None else self._silent
            if self._answered and self._clock() - self._silent >= _SILENT_SECONDS:
                self._tell("superlink", f"{error.message} {self._what_to_do()}")
            return
        self._answered, self._silent = True, None
        self._untell("superlink", "The SuperLink answers again.")

    def close(self) -> None:
        """Look no longer."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _what_to_do(self) -> str:
        pid = self._superlink()
        if pid is None:
            return f"No hospital reaches it. {_LOOK_AT_LOG} end its process: {_ANEW}."
        if stands_still(pid):
            return f"No hospital reaches it. Its {stopped_words(pid, 'has it started anew')}"
        if not psutil.pid_exists(pid):
            return (
                "Its process has ended, and another one is started by itself. If it does not "
                "stay: superlink.log; another program may have taken the port."
            )
        return f"No hospital reaches it. {_LOOK_AT_LOG} end its process {pid}: {_ANEW}."

    def _look_at_serverapp(self) -> None:
        pid = self._serverapp()
        if pid is not None and stands_still(pid):
            self._tell("serverapp", f"The run's ServerApp, {stopped_words(pid, ANOTHER_ONE)}")
        else:
            self._untell("serverapp", "The run's ServerApp does not stand still any more.")

    def _tell(self, topic: str, text: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            say(text, logging.WARNING)

    def _untell(self, topic: str, text: str) -> None:
        if topic in self._said:
            self._said.remove(topic)
            say(text)

"""Starting trainers by way of their nursery, and saying in words how one ended. In the agent."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from client.trainer.channel import Channel
from client.trainer.frames import FROM_TRAINER, FromTrainer
from client.trainer.orders import (
    ANSWER,
    ENDED,
    STARTED,
    Orders,
    TrainerExit,
    exactly,
    give,
)

HANGUP_SECONDS: Final = 1.0  # for a trainer whose agent hung up, before it is killed
FIRST_LIMIT: Final = 1 << 24  # bytes of a frame, until the adapter's size is known
_OVERHEAD: Final = 1 << 16
_NUMBER_BYTES: Final = 8  # of a vector: a sum's are int64


class NurseryGoneError(RuntimeError):
    """Nobody is left who could start a trainer: the agent had better start anew."""

    def __init__(self) -> None:
        super().__init__("the nursery has ended")


class Nursery:
    """The agent's way to the process that starts its trainers; one call at a time."""

    def __init__(self, pid: int, end: socket.socket) -> None:
        """As `fork_nursery` returns them."""
        self._pid = pid
        self._end = end

    def start(self, orders: Orders) -> TrainerProcess:
        """Start a trainer; the last one must be gone. Raises `OSError` or `NurseryGoneError`."""
        ours, its = socket.socketpair()
        try:
            with its:
                give(self._end, orders, its)
            kind, pid = self._heard()
            if kind != STARTED:
                raise NurseryGoneError
        except ConnectionError:
            ours.close()
            raise NurseryGoneError from None
        return TrainerProcess(Channel(ours, FROM_TRAINER, FIRST_LIMIT), pid, self)

    def ended(self, timeout: float | None = None) -> int:
        """Wait for the trainer's end; its exit status (negative: of a signal). `TimeoutError`."""
        self._end.settimeout(timeout)
        try:
            kind, status = self._heard()
        finally:
            self._end.settimeout(None)
        return status if kind == ENDED else TrainerExit.NURSERY_GONE

    def close(self) -> None:
        """End it, and with it its trainer."""
        self._end.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _heard(self) -> tuple[bytes, int]:
        try:
            answer = exactly(self._end, ANSWER.size)
        except ConnectionError:
            answer = None
        if answer is None:
            return b"", 0
        kind, number = ANSWER.unpack(answer)
        return kind, number


@dataclass(frozen=True, slots=True)
class TrainerProcess:
    """A trainer that runs, and the agent's end of the channel to it."""

    channel: Channel[FromTrainer]
    pid: int
    _nursery: Nursery

    def allow(self, parameters: int) -> None:
        """From now on its frames may hold vectors of that many numbers."""
        self.channel.limit = max(FIRST_LIMIT, _NUMBER_BYTES * parameters + _OVERHEAD)

    def end(self) -> int:
        """Hang up, kill it if it stays, and return its exit status (negative: of a signal)."""
        self.channel.close()
        try:
            return self._nursery.ended(HANGUP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):  # it has gone in this moment
                os.kill(self.pid, signal.SIGKILL)
            return self._nursery.ended()


def how_it_ended(status: int) -> str:
    """A sentence for the site's desk about an exit status as `TrainerProcess.end` returns it."""
    if status == -signal.SIGKILL:
        return (
            "The trainer was ended by signal 9 (SIGKILL): out of memory? The kernel's log tells "
            "(dmesg, journalctl -k)."
        )
    if status < 0:
        return f"The trainer was ended by signal {-status} ({_signal_name(-status)})."
    return _WORDS.get(status, f"The trainer ended with status {status}.")


_WORDS: Final[Mapping[int, str]] = {
    TrainerExit.UNEXPECTED: "The trainer ended after an unexpected error.",
    TrainerExit.MEMORY: (
        "The trainer ran out of memory. Free some, or look for what else uses the device "
        "(nvidia-smi)."
    ),
    TrainerExit.NURSERY_GONE: "The trainer and the process that starts it were ended.",
}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"

"""A SuperLink and an agent whose behaviour a test writes down, and a clock that is told."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from dataclasses import dataclass, field

from client.forwarder import AtTheSocket, Forwarded
from client.gateway.courier import Agent, Courier
from client.gateway.desk import DESK_MARK, Desk, Names
from client.gateway.fleet import PulledMessage
from client.gateway.memory import Remembered
from client.gateway.pace import Pace
from client.gateway.trouble import FleetTrouble, Trouble
from privacy.errors import WireError
from privacy.wire.bodies import Hello, Running
from privacy.wire.envelope import Envelope, seal

REQUEST = seal(Envelope(7, 2, 1, Hello(bytes(32))))
ANSWER = seal(Envelope(7, 2, 1, Running()))
NAMES = Names("coordinator:443", "/run/agent.sock", "supernode.pub")


class Enough(BaseException):
    """Ends the courier's loop, as a signal does."""


@dataclass
class Clock:
    """Seconds, which pass only by sleeping."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)
    most: int = 200  # sleeps, then the test ends

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if len(self.slept) >= self.most:
            raise Enough


@dataclass
class FakeMemory:
    remembered: Remembered = field(default_factory=Remembered)
    history: list[Remembered] = field(default_factory=list)
    full: list[bool] = field(default_factory=list)  # whether the disk is, at each write

    def read(self) -> Remembered:
        return self.remembered

    def write(self, remembered: Remembered) -> None:
        if self.full and self.full.pop(0):
            raise OSError(errno.ENOSPC, "No space left on device")
        self.remembered = remembered
        self.history.append(remembered)


@dataclass
class FakeLink:
    """`steps` names what each call does: a trouble is raised, once for each time it is listed."""

    steps: dict[str, list[Trouble | None]] = field(default_factory=dict)
    messages: list[PulledMessage] = field(default_factory=list)
    contents: bytes | WireError = REQUEST
    registered_as: int = 5
    node: int = 0
    version: str = ""
    ahead: float = 0.0
    clock: Clock | None = None
    holds: float = 0.0  # seconds for which a look that finds nothing is held, with a clock
    held: bool = False  # as the real one: of the last answer to anything
    done: list[str] = field(default_factory=list)
    replies: list[bytes] = field(default_factory=list)

    def _step(self, name: str) -> None:
        self.done.append(name)
        self.held = False
        waiting = self.steps.get(name, [])
        trouble = waiting.pop(0) if waiting else None
        if trouble is not None:
            raise FleetTrouble(trouble, "7")

    def activate(self) -> None:
        self._step("activate")
        self.node = self.registered_as

    def resume(self, node: int) -> None:
        self.node = node
        try:
            self._step("resume")
        except FleetTrouble as trouble:
            if trouble.trouble is Trouble.KEY_UNKNOWN:
                self.node = 0
            raise

    def beat(self) -> None:
        self._step("beat")

    def pull(self) -> PulledMessage | None:
        self._step("pull")
        if self.messages:
            return self.messages.pop(0)
        if self.clock is not None and self.holds:
            self.clock.now += self.holds
            self.held = True
        return None

    def fetch(self, pulled: PulledMessage, limit: int) -> bytes:
        self._step("fetch")
        if isinstance(self.contents, WireError):
            raise self.contents
        return self.contents

    def prepare(self, pulled: PulledMessage, envelope: bytes, seconds: float) -> bytes:
        self._step("prepare")
        return envelope

    def push(self, reply: bytes) -> None:
        self._step("push")
        self.replies.append(reply)

    def confirm(self, pulled: PulledMessage) -> None:
        self._step("confirm")


@dataclass
class World:
    """A courier between the two, run until its clock has slept often enough."""

    link: FakeLink = field(default_factory=FakeLink)
    memory: FakeMemory = field(default_factory=FakeMemory)
    clock: Clock = field(default_factory=Clock)
    lines: list[str] = field(default_factory=list)
    forward: Callable[[bytes], Forwarded] = lambda request: Forwarded(ANSWER)
    knock: Callable[[], AtTheSocket] = lambda: AtTheSocket.LISTENING
    pace: Pace = field(default_factory=Pace)

    def run(self, sleeps: int = 5) -> list[str]:
        """The lines for the desk, without their mark."""
        self.clock.most = len(self.clock.slept) + sleeps
        desk = Desk(NAMES, self._write, clock=self.clock)
        agent = Agent(self.forward, self.knock, largest=1 << 20)
        courier = Courier(
            self.link,  # type: ignore[arg-type]
            agent,
            desk,
            self.memory,
            self.pace,
            sleep=self.clock.sleep,
            clock=self.clock,
        )
        with contextlib.suppress(Enough):
            courier.run()
        return self.lines

    def _write(self, text: str) -> None:
        assert text.startswith(DESK_MARK)
        self.lines.append(text.removeprefix(DESK_MARK))

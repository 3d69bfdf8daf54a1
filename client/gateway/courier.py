"""The gateway's loop: look for a message, carry it to the agent, carry the answer back.

It knows the SuperLink only as a `Link` and the agent only as a function, so that every order of
events can be tried without either. It holds one message at a time; a `Refusal` of its own answers
for an agent that does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from client.forwarded import AtTheSocket, Forwarded
from client.gateway.desk import Desk
from client.gateway.fleet import PreparedReply, PulledMessage
from client.gateway.memory import Remembered
from client.gateway.pace import Pace
from client.gateway.trouble import FleetTrouble, Trouble
from privacy.errors import WireError
from privacy.wire.envelope import refuse
from privacy.wire.reasons import Reason, RefusedMessage

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds before another try of what failed; doubles
_KNOCK_SECONDS = 5.0  # between two looks at the agent's socket while nothing is carried
_LONGEST_REPLY_SECONDS = 900.0  # then the coordinator has long stopped waiting for it
_TRIES_OF_UNEXPECTED = 3
_NOT_FOR_EVER = (Trouble.UNEXPECTED, Trouble.TOO_LARGE, Trouble.STRANGE_ANSWER)


class Link(Protocol):
    """What the courier needs of `client.gateway.fleet.FleetLink`."""

    @property
    def node(self) -> int:
        """The node's id; 0 before it is connected."""

    @property
    def version(self) -> str:
        """What the SuperLink says about versions; "" if they go together."""

    @property
    def ahead(self) -> float:
        """Seconds by which this machine's clock is ahead."""

    @property
    def held(self) -> bool:
        """Whether the last answer was held until there might be a message."""

    def activate(self) -> None:
        """Be admitted."""

    def resume(self, node: int) -> None:
        """Go on as `node`."""

    def beat(self) -> None:
        """Send a heartbeat if one is due."""

    def pull(self) -> PulledMessage | None:
        """The next message."""

    def fetch(self, pulled: PulledMessage, limit: int) -> bytes:
        """The envelope in it."""

    def prepare(self, pulled: PulledMessage, envelope: bytes, seconds: float) -> PreparedReply:
        """The reply with `envelope`."""

    def push(self, reply: PreparedReply) -> None:
        """Send it."""

    def confirm(self, pulled: PulledMessage) -> None:
        """Let the message be forgotten."""


class Memory(Protocol):
    """What the courier needs of `client.gateway.memory.NodeFile`."""

    def read(self) -> Remembered:
        """What was remembered."""

    def write(self, remembered: Remembered) -> None:
        """Remember. Raises `OSError` where the disk takes nothing."""


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent's socket: how to forward to it, and what a knock at it finds."""

    forward: Callable[[bytes], Forwarded]
    knock: Callable[[], AtTheSocket]
    largest: int  # bytes of a message that are carried to it


class Courier:
    """Carries messages until it is interrupted by an exception from outside.

    `sleep` and `clock` (monotonic, seconds) are arguments for tests.
    """

    def __init__(
        self,
        link: Link,
        agent: Agent,
        desk: Desk,
        memory: Memory,
        pace: Pace,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link, self._agent, self._desk, self._memory = link, agent, desk, memory
        self._pace, self._sleep, self._clock = pace, sleep, clock
        self._wish: float | None = None
        self._carried: PulledMessage | None = None  # from before this process
        self._answered: list[PulledMessage] = []  # what the SuperLink may forget
        self._knocked = -_KNOCK_SECONDS
        self._last = clock()  # when a message was last carried

    def run(self) -> None:
        """Connect, carry, connect again: for ever."""
        pause = FIRST_PAUSE
        while True:
            try:
                self._connect()
                pause = FIRST_PAUSE
                self._carry_all()
            except FleetTrouble as trouble:
                self._desk.trouble(trouble)
                self._look_at_agent()
                self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _connect(self) -> None:
        if self._link.node:
            self._link.resume(self._link.node)
        else:
            self._be_admitted(self._memory.read())
        self._desk.connected(self._link)

    def _be_admitted(self, remembered: Remembered) -> None:
        self._carried = PulledMessage.decode(remembered.carried)
        try:
            self._link.activate()
        except FleetTrouble as trouble:
            if trouble.trouble is not Trouble.NOT_ADMITTED or not remembered.node:
                raise
            self._link.resume(remembered.node)
        if remembered.node != self._link.node:
            self._carried = None
            self._remember(Remembered(self._link.node))

    def _carry_all(self) -> None:
        if self._carried is not None:
            carried, self._carried = self._carried, None
            self._carry(carried)
        quiet = False  # whether the look before had found nothing, too
        while True:
            self._link.beat()
            asked = self._clock()
            pulled = self._link.pull()
            # Of this look: a confirmation below has an answer of its own, which nobody held.
            took, held = self._clock() - asked, self._link.held
            if pulled is not None:
                self._remember(Remembered(self._link.node, pulled.encode()))
                self._carry(pulled)
                quiet = False
                continue
            if quiet:
                self._confirm_all()
            quiet = True
            self._look_at_agent()
            silence = self._clock() - self._last
            self._sleep(self._pace.wait(silence, self._wish, took, held=held))

    def _carry(self, pulled: PulledMessage) -> None:
        """One message there and back. A failure of the link is waited out here, with the answer."""
        began = self._clock()
        self._wish = pulled.look or self._wish
        reply: PreparedReply | None = None
        pause, unexpected = FIRST_PAUSE, 0
        while self._clock() - began < _LONGEST_REPLY_SECONDS:
            try:
                if reply is None:
                    answer = self._answer(pulled)
                    reply = self._link.prepare(pulled, answer, self._clock() - began)
                self._link.push(reply)
                self._answered.append(pulled)
                self._desk.connected(self._link)
                break
            except FleetTrouble as trouble:
                if trouble.trouble is Trouble.RUN_ENDED:
                    break
                self._desk.trouble(trouble)
                unexpected += trouble.trouble in _NOT_FOR_EVER
                if unexpected == _TRIES_OF_UNEXPECTED:
                    break
            self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._remember(Remembered(self._link.node))
        self._last = self._clock()

    def _remember(self, remembered: Remembered) -> None:
        """Write down what a kill would lose. A disk that takes nothing is no reason to stop."""
        try:
            self._memory.write(remembered)
        except OSError as error:
            self._desk.memory(error.strerror or "it cannot be written")
        else:
            self._desk.memory("")

    def _confirm_all(self) -> None:
        """Have forgotten what was answered. It may wait: the other sites' answers come first."""
        while self._answered:
            pulled = self._answered.pop()
            try:
                self._link.confirm(pulled)
            except FleetTrouble as trouble:
                if trouble.trouble is not Trouble.RUN_ENDED:  # which forgets everything
                    raise

    def _answer(self, pulled: PulledMessage) -> bytes:
        try:
            request = self._link.fetch(pulled, self._agent.largest)
        except RefusedMessage as error:
            self._desk.refused(error.reason)
            return refuse(b"", error.reason)
        except WireError:
            self._desk.refused(Reason.MALFORMED)
            return refuse(b"", Reason.MALFORMED)
        found = self._agent.forward(request)
        self._desk.answered(found, self._agent.knock)
        return found.answer

    def _look_at_agent(self) -> None:
        now = self._clock()
        if now - self._knocked >= _KNOCK_SECONDS:
            self._knocked = now
            self._desk.at_the_socket(self._agent.knock())

"""Whether two gateways take turns at the agent's socket, each with messages of its own.

A forwarding process names itself, by random bytes that it keeps for as long as it lives. A gateway
that was restarted has another name, and its old one never comes back. So a name that comes back
after another one was heard belongs to a process that lived all the time, beside the other: there
are two, whoever started them, with one node's key or with two. Flower's SuperNode forwards every
message from a process of its own, whose name comes once: beside a gateway it is noticed, two of
them are not (where their keys differ, the coordinator says so).

Whoever can open the socket can call itself anything. Nothing follows from a name but a line at the
site's own desk.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

TWO_GATEWAYS: Final = (
    "Two gateways take turns at this agent's socket, and messages for this site get lost between "
    "them. Stop one: look for a second craftsfl site serve or flower-supernode, also in other "
    "containers and under other users."
)
TOLD_AGAIN_SECONDS: Final = 600.0
_REMEMBERED: Final = 16  # names
_LONGEST_NAME: Final = 64  # characters
_log = logging.getLogger("craftsfl.agent")


class GatewayTurns:
    """Takes in who calls, one call at a time, and tells the desk of two that take turns."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now = ""
        self._earlier: deque[str] = deque(maxlen=_REMEMBERED)
        self._told = -TOLD_AGAIN_SECONDS

    def heard(self, name: str) -> None:
        """A call of the process `name`; "" or an impossible one says nothing."""
        if name == self._now or not 0 < len(name) <= _LONGEST_NAME:
            return
        back = name in self._earlier
        if self._now:
            self._earlier.append(self._now)
        self._now = name
        if back and self._clock() - self._told >= TOLD_AGAIN_SECONDS:
            self._told = self._clock()
            _log.warning("%s", TWO_GATEWAYS)

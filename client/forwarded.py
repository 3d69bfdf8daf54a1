"""What comes of an envelope for the agent, and of a knock at its socket; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from privacy.wire.reasons import Reason

DEADLINE = 15.0  # seconds for the whole exchange; the server expects an answer within 20


# Of the metadata of an `Exchange`: what a forwarding process calls itself for as long as it lives.
PROCESS_KEY = "gateway-process"


class AtTheSocket(Enum):
    """What somebody who knocks at the agent's socket finds."""

    LISTENING = "listening"
    NO_FILE = "no file"
    NO_PERMISSION = "no permission"
    NO_LISTENER = "no listener"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The answer's bytes; `silent`: why they are a refusal of the forwarder's own, if they are."""

    answer: bytes
    silent: Reason | None = None

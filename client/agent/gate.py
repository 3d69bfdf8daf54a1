"""Who may come through to the agent: nobody before there is one, new attempts only to a trainer.

What happens to the trainer in an attempt may depend on the data, and nothing about that may show
before the attempt is charged. So from the first message of an attempt until its answer, the gate
stays open whatever becomes of the trainer: the attempt fails like one that is late. Guarantees,
each with a test:

- Before the agent can be made, because the adapter's layout is not known yet, every message is
  answered NOT_READY, and changes nothing.
- While no trainer is there, a message that would begin an attempt is answered NOT_READY, and costs
  nothing; all others reach the agent, and so does a repetition of what began one.
- A trainer that goes while an attempt has not been answered closes the gate only after the answer.
"""

# Why: docs/adr/0033-trainer-process.md

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from client.agent.progress import ProgressEvent, ProgressSource
from client.agent.site_agent import SiteAgent
from model.layout import Layout
from privacy.wire.bodies import Kind
from privacy.wire.envelope import attempt_of, kind_of, refuse
from privacy.wire.reasons import Reason

# Of a message for an agent that is not made yet: the coordinator hears of it as soon as there is
# one, and nothing else can be asked of the site meanwhile. A forwarder waits for 15 s.
PATIENCE_SECONDS = 5.0
_BEGINNING: Final = frozenset({Kind.TRAIN_MASKED, Kind.STEP})


class AgentGate:
    """Passes messages on to the agent. `trainer_for` says whether there is a trainer for a layout.

    All methods may be called from any thread.
    """

    def __init__(self, progress: ProgressSource, trainer_for: Callable[[Layout], bool]) -> None:
        self._progress = progress
        self._trainer_for = trainer_for
        self._standing: tuple[SiteAgent, Layout] | None = None
        self._opened = threading.Event()

    def open(self, agent: SiteAgent, layout: Layout) -> None:
        """From now on `agent`, made for adapters of `layout`, answers, also those who wait."""
        self._standing = agent, layout
        self._opened.set()

    def tell(self, event: ProgressEvent) -> None:
        """Tell watchers what goes on, unless an attempt does."""
        self._progress.publish_idle(event)

    @property
    def takes_attempts(self) -> bool:
        """Whether an attempt may begin, as far as anybody outside may know."""
        standing = self._standing
        if standing is None:
            return False
        return self._trainer_for(standing[1]) or self._progress.in_attempt

    def handle(self, data: bytes) -> bytes:
        """The agent's answer to a sealed message, or a refusal."""
        self._opened.wait(PATIENCE_SECONDS)
        standing = self._standing
        if standing is None or (self._begins(standing[0], data) and not self.takes_attempts):
            return refuse(data, Reason.NOT_READY)
        return standing[0].handle(data)

    @staticmethod
    def _begins(agent: SiteAgent, data: bytes) -> bool:
        """Whether a message would begin an attempt. A sealed step is sent again for its vector."""
        return kind_of(data) in _BEGINNING and not agent.has_begun(*attempt_of(data))

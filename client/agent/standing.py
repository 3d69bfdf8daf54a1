"""How the agent stands, told to everybody who may know: the gate, the health service, watchers."""

from __future__ import annotations

import logging

from client.agent.gate import AgentGate
from client.agent.known_layout import KnownLayout
from client.agent.progress import ENCODING, LOADING, READY, ProgressEvent
from client.agent.ready import ReadyAgent
from client.agent.service import AgentServer
from client.agent.site_agent import SiteAgent
from client.trainer.frames import ENCODING_TILES
from client.trainer.keeper import TrainerKeeper
from model.layout import Layout
from privacy.wire.signing import SIGNING_BYTES

_log = logging.getLogger("craftsfl.agent")


class Standing:
    """Makes the agent once the adapter's layout is known, and again should it be another one.

    Only the main thread calls `update`, a few times a second; until the first call nobody is
    answered anything but NOT_READY.
    """

    def __init__(
        self,
        ready: ReadyAgent,
        keeper: TrainerKeeper,
        gate: AgentGate,
        service: AgentServer,
        memory: KnownLayout,
    ) -> None:
        self._parts = ready
        self._keeper = keeper
        self._gate = gate
        self._service = service
        self._memory = memory
        self._agent: SiteAgent | None = None
        self._layout: Layout | None = None
        self._noted = False
        self._open = False

    def update(self) -> None:
        """Look at the trainer and tell what has changed; raises what the first one refused."""
        self._keeper.check()
        layout = self._keeper.known_layout
        if layout is not None and layout != self._layout:
            self._make(layout)
        if layout is not None and self._keeper.was_ready and not self._noted:
            self._noted = True
            self._memory.write(layout)
        takes = self._gate.takes_attempts
        if takes != self._open:
            self._open = takes
            self._service.set_ready(takes)
            if takes:
                _log.info("Ready.")
        self._gate.tell(self._phase())

    def retire(self) -> bool:
        """Whether nothing of an attempt may leave any more; if so, nothing begins from now on."""
        return self._agent is None or self._agent.retire()

    def stop(self) -> None:
        """Refuse everything from now on; what is being trained is lost."""
        if self._agent is not None:
            self._agent.stop(0.0)

    def _make(self, layout: Layout) -> None:
        if self._layout is not None:
            _log.warning("The adapter's layout is not the one of the last start any more.")
        self._layout = layout
        agent = self._parts.make()
        self._service.set_limit(max(agent.limit, SIGNING_BYTES))
        self._gate.open(agent, layout)
        self._agent = agent
        _log.info("Answering.")

    def _phase(self) -> ProgressEvent:
        if self._open:
            return ProgressEvent(0, 0, 0, READY, 0, 0)
        found = self._keeper.phase
        phase = ENCODING if found.name == ENCODING_TILES else LOADING
        return ProgressEvent(0, 0, 0, phase, found.done, found.total)

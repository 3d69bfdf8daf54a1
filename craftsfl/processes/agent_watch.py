"""Watching a site agent through its own socket, as far as anybody may."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from client.agent.progress import ENCODING, LOADING
from privacy.wire import agent_pb2, agent_pb2_grpc
from privacy.wire.chunks import target

_RETRY_SECONDS = 0.5
# A proxy named in the environment is for reaching the coordinator, never for this socket.
_NO_PROXY = [("grpc.enable_http_proxy", 0)]
_NOT_READY = ("", LOADING, ENCODING)


@dataclass(frozen=True)
class AgentState:
    """What a site's own console shows; an empty phase means that no agent answers."""

    phase: str = ""
    round: int = 0
    done: int = 0
    total: int = 0

    @property
    def ready(self) -> bool:
        """Whether the model is resident and the data is encoded."""
        return self.phase not in _NOT_READY

    @property
    def loaded(self) -> bool:
        """Whether the model is resident; tiles may still be being encoded."""
        return self.ready or self.phase == ENCODING


class AgentWatch:
    """Keeps the newest `AgentState` of the agent behind `socket` until `close`."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._state = AgentState()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def state(self) -> AgentState:
        """The newest state."""
        return self._state

    def close(self) -> None:
        """Stop watching, unnoticed by the agent."""
        self._closed.set()
        self._thread.join(2 * _RETRY_SECONDS)

    def _follow(self) -> None:
        while not self._closed.wait(_RETRY_SECONDS):
            try:
                with grpc.insecure_channel(target(self._socket), options=_NO_PROXY) as channel:
                    self._listen(channel)
            except grpc.RpcError:
                pass  # there is no agent (any more): try again
            self._state = AgentState()

    def _listen(self, channel: grpc.Channel) -> None:
        events = agent_pb2_grpc.AgentStub(channel).Progress(agent_pb2.ProgressRequest())
        closer = threading.Thread(
            target=lambda: (self._closed.wait(), events.cancel()), daemon=True
        )
        closer.start()
        for event in events:
            self._state = AgentState(event.phase, event.round, event.done, event.total)

"""Watching a site agent through its own socket: health and progress. Both stay at the site."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from privacy.wire import agent_pb2, agent_pb2_grpc
from privacy.wire.chunks import target

HEALTH_SECONDS = 2.0
RETRY_SECONDS = 0.5
# A proxy of the environment is for the way to the coordinator, never for this socket.
NO_PROXY = [("grpc.enable_http_proxy", 0)]


@dataclass(frozen=True)
class AgentState:
    """What a site's own console may show: far more than what the coordinator learns."""

    ready: bool = False
    round: int = 0
    phase: str = ""
    done: int = 0
    total: int = 0


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
        """The newest state; `ready` once the model is resident and the data is encoded."""
        return self._state

    def close(self) -> None:
        """Stop watching; the agent does not notice."""
        self._closed.set()
        self._thread.join(HEALTH_SECONDS + RETRY_SECONDS)

    def _follow(self) -> None:
        while not self._closed.wait(RETRY_SECONDS):
            try:
                with grpc.insecure_channel(target(self._socket), options=NO_PROXY) as channel:
                    self._listen(channel)
            except grpc.RpcError:
                self._state = AgentState()

    def _listen(self, channel: grpc.Channel) -> None:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        while not self._closed.wait(RETRY_SECONDS):
            answer = health.Check(request, timeout=HEALTH_SECONDS)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                break
        else:
            return
        self._state = AgentState(ready=True)
        events = agent_pb2_grpc.AgentStub(channel).Progress(agent_pb2.ProgressRequest())
        closer = threading.Thread(
            target=lambda: (self._closed.wait(), events.cancel()), daemon=True
        )
        closer.start()
        for event in events:
            self._state = AgentState(True, event.round, event.phase, event.done, event.total)

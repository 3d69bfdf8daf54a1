"""Types of the generated module (grpc_tools writes none)."""

from collections.abc import Iterable, Iterator, Sequence

import grpc

from privacy.wire.agent_pb2 import Chunk, ProgressEvent, ProgressRequest

class AgentStub:
    def __init__(self, channel: grpc.Channel) -> None: ...
    def Exchange(
        self,
        request_iterator: Iterable[Chunk],
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str]] | None = None,
    ) -> grpc.Call: ...
    def Progress(self, request: ProgressRequest, timeout: float | None = None) -> grpc.Call: ...

class AgentServicer:
    def Exchange(
        self, request_iterator: Iterator[Chunk], context: grpc.ServicerContext
    ) -> Iterator[Chunk]: ...
    def Progress(
        self, request: ProgressRequest, context: grpc.ServicerContext
    ) -> Iterator[ProgressEvent]: ...

def add_AgentServicer_to_server(servicer: AgentServicer, server: grpc.Server) -> None: ...

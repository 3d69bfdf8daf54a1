"""The agent's gRPC service on its Unix socket: the hospital's side of the airlock.

Anything that can open the socket may be hostile: it can run any code that the coordinator's bundle
carries. Guarantees, each with a test:

- No more than `limit` bytes of a message are held, in chunks of at most 1 MiB; a longer message is
  refused before the handler sees it.
- What the handler raises never crosses: the caller gets `Refusal(INTERNAL)`, and the agent's log
  names the type and the place, not the text, which could contain a patient's file name.
- Only the socket's owner can connect (mode 0600 unless the site says otherwise), and a socket on
  which another agent still listens is not taken over.
- There is one place for a gateway and `MAX_WATCHERS` for watchers; neither can be taken by the
  other kind. An exchange waits `PLACE_SECONDS` for the one before it, as when a gateway was
  restarted, and is then refused in words. Of two that take turns the site's desk is told
  (`client.agent.gateways`).
- No call occupies a place permanently: an exchange ends after `EXCHANGE_SECONDS` or when the caller
  hangs up, and the health service answers but cannot be watched.
- About an attempt the progress stream reveals only that it is in progress until it was answered, no
  more than `Running` reveals to the server: the time of steps, or of the end of training, would
  reveal how many patients were drawn, and whether it failed may depend on the data.
"""

# Why: docs/adr/0001-airlock.md

from __future__ import annotations

import logging
import os
import socket as sockets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from client.agent.boundary import Failure, contained
from client.agent.gateways import GatewayTurns
from client.agent.progress import (
    ANSWERED,
    ENCODING,
    LOADING,
    READY,
    TRAINING,
    ProgressEvent,
    ProgressSource,
)
from client.forwarded import PROCESS_KEY
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError
from privacy.wire import agent_pb2, agent_pb2_grpc
from privacy.wire.chunks import MAX_CHUNK_MESSAGE, gather, split, target
from privacy.wire.envelope import refuse
from privacy.wire.reasons import Reason

MAX_PATH_BYTES = 100  # the system accepts at most 107; a longer path cannot be bound
SERVICE = agent_pb2.DESCRIPTOR.services_by_name["Agent"].full_name
MAX_CALLS = 8  # at once: one exchange, the watchers, and those that are refused or ask for health
MAX_WATCHERS = 4
PLACE_SECONDS = 2.0
SECOND_GATEWAY = (
    "Another gateway is being served: this socket takes one. Stop the other one, or give "
    "it an agent of its own."
)
EXCHANGE_SECONDS = 30.0  # for request and answer together; the forwarder gives up after 15
_LOOK_SECONDS = 0.05
QUARTERS = 4  # of the tiles, before the first round
_TOLD = (LOADING, ENCODING, READY, ANSWERED)  # anything else that an attempt does is "training"

Handler = Callable[[bytes], bytes]

_log = logging.getLogger("craftsfl.agent")


@dataclass(frozen=True, slots=True)
class AgentServer:
    """A running service. It starts as NOT_SERVING; `set_ready` when the model is loaded."""

    path: Path
    _server: grpc.Server
    _agent: _Agent
    _health: health.HealthServicer
    _progress: ProgressSource

    def set_ready(self, ready: bool) -> None:
        """What the health service answers from now on; Exchange always reaches the handler."""
        states = health_pb2.HealthCheckResponse
        state = states.SERVING if ready else states.NOT_SERVING
        for name in ("", SERVICE):
            self._health.set(name, state)

    def set_limit(self, limit: int) -> None:
        """Bound requests to `limit` bytes from now on: once the adapter's size is known."""
        self._agent.limit = limit

    def stop(self, grace: float = 2.0) -> None:
        """Accept no more calls, give open ones `grace` seconds, remove the socket."""
        self.set_ready(False)
        self._progress.close()
        self._server.stop(grace).wait(grace + 1.0)  # a stuck call must not hold up the exit
        self.path.unlink(missing_ok=True)

    def wait(self) -> None:
        """Block until the service is stopped."""
        self._server.wait_for_termination()


def serve(
    handler: Handler, progress: ProgressSource, socket: Path, *, limit: int, mode: int = 0o600
) -> AgentServer:
    """Listen on `socket`; `handler` maps the bytes of one envelope to those of another.

    `handler` is called from several threads and must return at once. `limit` (bytes) bounds a
    request. `mode` is the socket's permissions. Raises `ConfigError` for a path that is too
    long, `DeploymentError` where it cannot listen.
    """
    path = socket.absolute()
    _check_path(path)
    _clear(path)
    server = grpc.server(
        ThreadPoolExecutor(MAX_CALLS, thread_name_prefix="agent"),
        maximum_concurrent_rpcs=MAX_CALLS,
        options=[("grpc.max_receive_message_length", MAX_CHUNK_MESSAGE)],
    )
    agent = _Agent(handler, progress, limit)
    agent_pb2_grpc.add_AgentServicer_to_server(agent, server)
    state = _health_service()
    health_pb2_grpc.add_HealthServicer_to_server(state, server)
    _bind(server, path, mode)
    service = AgentServer(path, server, agent, state, progress)
    service.set_ready(False)
    server.start()
    return service


class _Agent(agent_pb2_grpc.AgentServicer):
    """The two calls of agent.proto."""

    def __init__(self, handler: Handler, progress: ProgressSource, limit: int) -> None:
        self._handler = handler
        self._progress = progress
        self._gateway = threading.Lock()
        self._turns = GatewayTurns()  # guarded by the gateway's place
        self._watchers = threading.BoundedSemaphore(MAX_WATCHERS)
        self.limit = limit  # bytes of a request

    def Exchange(
        self, request_iterator: Iterator[agent_pb2.Chunk], context: grpc.ServicerContext
    ) -> Iterator[agent_pb2.Chunk]:
        """One envelope in, one envelope out."""
        watchdog = threading.Timer(EXCHANGE_SECONDS, context.cancel)
        watchdog.daemon = True
        watchdog.start()
        try:
            if not self._placed(context):
                _log.warning("%s", SECOND_GATEWAY)
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, SECOND_GATEWAY)
            self._turns.heard(_name_of(context))
            try:
                yield from self._exchanged(request_iterator, context)
            finally:
                self._gateway.release()
        finally:
            watchdog.cancel()

    def _placed(self, context: grpc.ServicerContext) -> bool:
        """Wait for the gateway's place; whether the caller has it."""
        end = time.monotonic() + PLACE_SECONDS
        while time.monotonic() < end and context.is_active():
            if self._gateway.acquire(timeout=_LOOK_SECONDS):
                return True
        return False

    def _exchanged(
        self, request_iterator: Iterator[agent_pb2.Chunk], context: grpc.ServicerContext
    ) -> Iterator[agent_pb2.Chunk]:
        request = gather(request_iterator, self.limit)
        if request is not None:
            yield from split(self._call(request))
        else:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "The message is too large.")

    def Progress(
        self, request: agent_pb2.ProgressRequest, context: grpc.ServicerContext
    ) -> Iterator[agent_pb2.ProgressEvent]:
        """Changes in what `_coarse` reveals, until the caller hangs up or the agent stops."""
        if not self._watchers.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many watchers already.")
        try:
            yield from self._changes(context)
        finally:
            self._watchers.release()

    def _changes(self, context: grpc.ServicerContext) -> Iterator[agent_pb2.ProgressEvent]:
        subscription = self._progress.subscribe()
        if not context.add_callback(subscription.close):
            return  # the caller has already hung up: nothing would ever wake the subscription
        last = None
        for event in subscription:
            coarse = _coarse(event)
            if coarse != last:
                yield coarse
            last = coarse

    def _call(self, request: bytes) -> bytes:
        # No exception's text may reach the server, whatever the handler is.
        answer = contained(lambda: self._handler(request))
        if isinstance(answer, Failure):
            _log.error("The handler failed: %s", answer.text)
            return refuse(request, Reason.INTERNAL)
        return answer


def _name_of(context: grpc.ServicerContext) -> str:
    """What the process that calls names itself; "" where it does not."""
    named = [value for key, value in context.invocation_metadata() if key == PROCESS_KEY]
    return named[0] if len(named) == 1 and isinstance(named[0], str) else ""


def _health_service() -> health.HealthServicer:
    """Answers `Check`, not `Watch`: watchers would be kept in memory, and nothing limits them."""
    service = health.HealthServicer(experimental_non_blocking=False)
    service.Watch = _not_watched
    return service


def _not_watched(
    request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
) -> Iterator[health_pb2.HealthCheckResponse]:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "Ask with Check.")
    yield from ()


def _coarse(event: ProgressEvent) -> agent_pb2.ProgressEvent:
    """What anyone who can open the socket, such as the coordinator's code, may know of `event`."""
    told = event.phase in _TOLD
    counted = event.phase == ENCODING and event.total > 0
    quarter = QUARTERS * event.done // event.total if counted else 0
    return agent_pb2.ProgressEvent(
        run=event.run,
        round=event.round,
        attempt=event.attempt,
        phase=event.phase if told else TRAINING,
        done=max(0, min(quarter, QUARTERS)),
        total=QUARTERS if counted else 0,
    )


def _check_path(path: Path) -> None:
    length = len(os.fsencode(path))
    if length > MAX_PATH_BYTES:
        raise ConfigError(
            f"The agent's socket path has {length} bytes; at most {MAX_PATH_BYTES} can be bound.",
            'Set a shorter path as "socket" in the [agent] table of site.toml.',
        )


def _clear(path: Path) -> None:
    """Make room: create the folder, remove a socket on which no one listens any more."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            return
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise DeploymentError(f"{path} is not a socket.", "Choose another socket path.")
        if _listening(path):
            raise DeploymentError(
                f"Another agent listens on {path}.",
                "Stop it, or choose another socket path.",
                id=ErrorId.AGENT_RUNNING,
            )
        path.unlink()
    except OSError as error:
        raise _cannot_listen(path, error.strerror) from None


def _listening(path: Path) -> bool:
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        return True


def _bind(server: grpc.Server, path: Path, mode: int) -> None:
    # The socket must never be open to others, not even between bind and chmod.
    before = os.umask(0o777 & ~mode)
    try:
        server.add_insecure_port(target(path))
        path.chmod(mode)
    except (RuntimeError, OSError):  # grpc raises RuntimeError without a cause
        raise _cannot_listen(path, "it cannot be bound") from None
    finally:
        os.umask(before)


def _cannot_listen(path: Path, why: str | None) -> DeploymentError:
    return DeploymentError(
        f"The agent cannot listen on {path}: {why}.",
        "The folder has to be this user's, with a group of the gateway's and mode 2750. Remove a "
        "socket in it that is another user's.",
    )

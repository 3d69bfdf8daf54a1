"""A Flower `Grid` inside one process: real serialisation, no network, faults on demand.

Flower deflates every request and reply to bytes and inflates it again, as on its way through a
SuperLink, so whatever works here also travels. For tests and reference runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, cast

from flwr.app import Error, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from privacy.errors import DeploymentError
from server.messages import pack_envelope, unpack_envelope

NodeHandler: TypeAlias = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Drop:
    """The site handles the request, but its reply is lost."""


@dataclass(frozen=True, slots=True)
class Delay:
    """The reply arrives `seconds` late."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    """The request never reaches the site; Flower itself reports `code`."""

    code: int = ErrorCode.NODE_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The reply arrives twice."""


GridFault: TypeAlias = Drop | Delay | Fail | Duplicate
FaultHook: TypeAlias = Callable[[int, int, bytes], GridFault | None]


class InProcessGrid(Grid):
    """A grid whose nodes are functions from envelope bytes to envelope bytes.

    `handlers` may change during a run: nodes join and leave. `faults` is called once per request
    with (node, number of earlier requests to it, the request's bytes). A node without a handler
    answers like a SuperNode that is gone.
    """

    def __init__(
        self,
        handlers: Mapping[int, NodeHandler],
        *,
        run_id: int = 1,
        faults: FaultHook | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handlers = handlers
        self._faults = faults or (lambda node, number, request: None)
        self._clock = clock
        self._run = Run.create_empty(run_id)
        self._counts: dict[int, int] = {}
        self._replies: list[tuple[float, Message]] = []
        # Flower's Message takes its run and sender from the identity of the process.
        TaskIdentity.task_id = 1
        TaskIdentity.run_id = run_id
        TaskIdentity.node_id = SUPERLINK_NODE_ID

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes present now."""
        return list(self._handlers)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver `messages` immediately, and keep the replies for `pull_messages`."""
        return [self._deliver(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies to `message_ids` that have arrived."""
        wanted = set(message_ids)
        now = self._clock()
        ready: list[Message] = []
        later: list[tuple[float, Message]] = []
        for due, reply in self._replies:
            if due <= now and reply.metadata.reply_to_message_id in wanted:
                ready.append(_transported(reply))
            else:
                later.append((due, reply))
        self._replies = later
        return ready

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Not supported, as it would have to wait."""
        raise DeploymentError("The in-process grid only pushes and pulls.", "Poll for replies.")

    def _deliver(self, message: Message) -> str:
        message.metadata.__dict__["_message_id"] = message.object_id
        node = message.metadata.dst_node_id
        arrived = _transported(message)
        request = unpack_envelope(arrived.content)
        number = self._counts.get(node, 0)
        self._counts[node] = number + 1
        fault = self._faults(node, number, request)
        handler = self._handlers.get(node)
        if isinstance(fault, Fail) or handler is None:
            code = fault.code if isinstance(fault, Fail) else ErrorCode.NODE_UNAVAILABLE
            self._keep(_from_superlink(Error(code, "not for anybody's eyes"), arrived))
        else:
            reply = Message(pack_envelope(handler(request)), reply_to=arrived)
            self._keep(reply, fault)
        return message.metadata.message_id

    def _keep(self, reply: Message, fault: GridFault | None = None) -> None:
        if isinstance(fault, Drop):
            return
        late = fault.seconds if isinstance(fault, Delay) else 0.0
        copies = 2 if isinstance(fault, Duplicate) else 1
        self._replies.extend([(self._clock() + late, reply)] * copies)


def _transported(message: Message) -> Message:
    """`message` as the other end sees it, after a round trip through bytes."""
    contents = {key: item.deflate() for key, item in get_all_nested_objects(message).items()}
    arrived = cast(Message, inflate_object_from_contents(message.object_id, contents))
    arrived.metadata.__dict__["_message_id"] = message.object_id
    return arrived


def _from_superlink(error: Error, request: Message) -> Message:
    reply = Message(error, reply_to=request)
    reply.metadata.__dict__["_src_node_id"] = SUPERLINK_NODE_ID
    return reply

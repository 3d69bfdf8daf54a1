"""The SuperLink's Fleet API: everything that the gateway uses of Flower's inside stands here.

It uses the client, the signing of requests and the objects that flwr's own SuperNode uses, but not
flwr's `http_request_response` around them: that ends the whole process where a connection cannot be
made, sends it SIGINT where the SuperLink answers 401, and retries in silence where it is away, so
that nobody could be told why. `tests/client/gateway/test_flower_contract.py` names what is missing
where another version of flwr has changed any of it.

Requests for a small message, there and back: pull, one object, push, one object; and confirm, when
there is nothing else to do: five in all, or three where the SuperLink moves contents with what
announces them (`privacy.wire.enclosed`). Of what travels in one record only the record is needed:
the message's metadata came with the pull, and the record's id is the SHA-256 of its bytes
(`privacy.wire.carriage`).
"""

# Why: docs/adr/0031-gateway.md

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import VERSION_INCOMPATIBILITY_MESSAGE_METADATA_KEY
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_id,
    get_object_tree,
    get_object_type_from_object_content,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufRequestContext
from flwr.supercore.runtime_version_compatibility import RuntimeVersionMetadata
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
from google.protobuf.message import DecodeError

from client.gateway.answers import bind_answers
from client.gateway.reach import unreachable
from client.gateway.trouble import FleetTrouble, Trouble
from client.packing import pack, unpack
from privacy.errors import WireError
from privacy.wire.carriage import (
    ANSWER_GROUP,
    HELD,
    HOLD,
    LOOK_HEADER,
    RECORD,
    look_in,
    takes_one,
)
from privacy.wire.enclosed import MOST_ENCLOSED, enclose, enclosed_in, wish_enclosed
from privacy.wire.reasons import Reason, RefusedMessage

_REQUEST_SECONDS = 30.0  # for one request; an object has at most 5 MB
HEARTBEAT_SECONDS = 18.0  # between two; Flower counts a node as gone after 60 s without one
_CLOCK_SECONDS = 4.0  # Flower refuses 5 s ahead and 305 s behind; what is known is less exact
_OBJECT_PAUSES = (0.02, 0.04, 0.08, 0.15, 0.3, *(0.5,) * 100)  # an object may still be under way
_RECORD_DEPTHS = (1, 3)  # the record alone, or in a message's contents
_SENT_AGAIN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
# What flwr raises for contents that are not what they claim to be.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, DecodeError)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


@dataclass(frozen=True, slots=True)
class PulledMessage:
    """A message for this node, as the SuperLink announced it; its contents are still there too."""

    announced: PullMessagesResponse
    contents: Mapping[str, bytes] = field(default_factory=dict)  # that came with it, by name

    @property
    def look(self) -> float | None:
        """How often, in seconds, the coordinator wishes to be asked for more; None: no wish."""
        return look_in(self.announced.messages_list[0].metadata.group_id)

    @property
    def age(self) -> float:
        """Seconds since it was written, by both machines' clocks."""
        return time.time() - self.announced.messages_list[0].metadata.created_at

    def encode(self) -> bytes:
        """The announcement's bytes, for `decode`."""
        return bytes(self.announced.SerializeToString())

    @classmethod
    def decode(cls, data: bytes) -> PulledMessage | None:
        """The inverse of `encode`; None for anything else."""
        try:
            announced = PullMessagesResponse.FromString(data)
        except DecodeError:
            return None
        whole = len(announced.messages_list) == len(announced.message_object_trees) == 1
        return cls(announced) if whole else None


@dataclass(frozen=True, slots=True)
class PreparedReply:
    """An answer to a message, the same however often it is sent."""

    message: Message
    tree: ObjectTree
    objects: dict[str, bytes]  # in the order in which they are sent: the innermost last
    seconds: float  # that the answer took


class _Observer:
    """Adds Flower's version to each request, and notes what answers tell beside their contents."""

    def __init__(self) -> None:
        # Seconds by which this machine's clock is ahead of the SuperLink's, give or take `doubt`:
        # its date has no fraction, and was written at any moment between question and answer.
        self.ahead, self.doubt = 0.0, 1.0
        self.version = ""  # what the SuperLink says about Flower's versions, if anything
        self.held = False  # whether the last answer was held until there might be a message
        self._headers = dict(RuntimeVersionMetadata.from_local_component("SuperNode").as_metadata())

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Called by flwr's client around each request."""
        context.request.headers.update(self._headers)
        context.request.headers[LOOK_HEADER] = HOLD
        sent = time.time()
        response = call_next(context)
        received = time.time()
        self.version = response.headers.get(VERSION_INCOMPATIBILITY_MESSAGE_METADATA_KEY, "")
        self.held = response.headers.get(LOOK_HEADER) == HELD
        date = _seconds_of(response.headers.get("date", ""))
        if date is not None:
            self.ahead = (sent + received) / 2 - (date + 0.5)
            self.doubt = (received - sent) / 2 + 0.5
        return response


def _seconds_of(date: str) -> float | None:
    """An HTTP date in seconds since 1970; None for one that there is not."""
    try:
        found = email.utils.parsedate_tz(date)
        return None if found is None else float(email.utils.mktime_tz(found))
    except (ValueError, OverflowError):
        return None


class FleetLink:
    """One kept-alive connection to the Fleet API at `address` (host:port), for one node's key.

    Not for use by several threads. Every method raises `FleetTrouble`.
    """

    def __init__(self, address: str, tls: ssl.SSLContext, key: ec.EllipticCurvePrivateKey) -> None:
        self._observer = _Observer()
        self._public = public_key_to_bytes(key.public_key())
        self._client = FleetHttpClient(
            f"https://{address}",
            interceptors=[self._observer, NodeAuthHttpInterceptor(key, key.public_key())],
            verify=tls,
            timeout=_REQUEST_SECONDS,
        )
        bind_answers(self._client._client)
        self._node = Node()
        self._beat = 0.0  # when the last heartbeat was sent, monotonic
        self.requests = 0  # sent so far

    @property
    def node(self) -> int:
        """The node's id at the SuperLink; 0 before it is connected."""
        return int(self._node.node_id)

    @property
    def version(self) -> str:
        """What the SuperLink says about the versions of Flower; "" if they go together."""
        return self._observer.version

    @property
    def held(self) -> bool:
        """Whether the SuperLink has held its last answer until there might be a message."""
        return self._observer.held

    @property
    def ahead(self) -> float:
        """Seconds by which this machine's clock is at least ahead of the SuperLink's; else 0."""
        return max(0.0, self._observer.ahead - self._observer.doubt)

    def activate(self) -> None:
        """Say that this node is here. Flower admits none that it still counts as being online."""
        response = self._call(
            self._client.ActivateNode,
            ActivateNodeRequest(
                public_key=self._public, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
            ),
        )
        self._node = Node(node_id=response.node_id)
        self._beat = time.monotonic()

    def resume(self, node: int) -> None:
        """Go on as the node that this key was before, which Flower may still count as online.

        Where the key is not that node's any more, this is no node, and may be activated again.
        """
        self._node = Node(node_id=node)
        try:
            self.beat(now=True)
        except FleetTrouble as trouble:
            if trouble.trouble is Trouble.KEY_UNKNOWN:
                self._node = Node()
            raise

    def beat(self, *, now: bool = False) -> None:
        """Send a heartbeat if one is due, or `now`."""
        if not now and time.monotonic() - self._beat < HEARTBEAT_SECONDS:
            return
        answer = self._call(
            self._client.SendNodeHeartbeat,
            SendNodeHeartbeatRequest(
                node=self._node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
            ),
        )
        if not answer.success:
            raise FleetTrouble(Trouble.KEY_UNKNOWN, "its node was unregistered")
        self._beat = time.monotonic()

    def pull(self) -> PulledMessage | None:
        """The next message for this node, if there is one. Flower hands each out once."""
        question = wish_enclosed(PullMessagesRequest(node=self._node))
        announced = self._call(self._client.PullMessages, question)
        if not announced.messages_list:
            return None
        contents = enclosed_in(announced)
        announced.DiscardUnknownFields()
        whole = PulledMessage.decode(announced.SerializeToString())
        return None if whole is None else PulledMessage(whole.announced, contents)

    def fetch(self, pulled: PulledMessage, limit: int) -> bytes:
        """The envelope in `pulled`.

        Raises `WireError` if there is none, `RefusedMessage` once it exceeds `limit` bytes.
        """
        message = pulled.announced.messages_list[0]
        tree = pulled.announced.message_object_trees[0]
        record = _only_record(tree)
        run = message.metadata.run_id
        if record is not None:
            content = self._bounded(pulled.contents.get(record) or self._await(run, record), limit)
            if get_object_id(content) != record:
                raise WireError("An object is not the one that was announced.", "Ask again.")
            if get_object_type_from_object_content(content) == ConfigRecord.__qualname__:
                return _unpacked(lambda: RecordDict({RECORD: ConfigRecord.inflate(content)}))
        contents: dict[str, bytes] = {}
        for item in iterate_object_tree(tree):
            if item.object_id not in contents:
                held = sum(map(len, contents.values()))
                found = self._await(run, item.object_id)
                contents[item.object_id] = self._bounded(found, limit - held)
        return _unpacked(lambda: _message_in(contents, tree.object_id).content)

    def prepare(self, pulled: PulledMessage, envelope: bytes, seconds: float) -> PreparedReply:
        """The reply that carries `envelope`, an answer that took `seconds`."""
        question = message_from_proto(pulled.announced.messages_list[0])
        reply = Message(pack(envelope), reply_to=question)
        alone = takes_one(question.metadata.group_id)
        reply.metadata.__dict__["_group_id"] = ANSWER_GROUP
        with no_object_id_recompute():
            tree = get_object_tree(reply)
            if alone and (record := _only_record(tree)) is not None:
                tree = ObjectTree(object_id=record)
            parts = get_all_nested_objects(reply)
            reply.metadata.__dict__["_message_id"] = tree.object_id
            return PreparedReply(
                remove_content_from_message(reply),
                tree,
                {
                    item.object_id: parts[item.object_id].deflate()
                    for item in reversed(list(iterate_object_tree(tree)))
                },
                seconds,
            )

    def push(self, reply: PreparedReply) -> None:
        """Send `reply`; may be repeated."""
        run = reply.message.metadata.run_id
        announcement = PushMessagesRequest(
            node=self._node,
            messages_list=[message_to_proto(reply.message)],
            message_object_trees=[reply.tree],
            clientapp_runtime_list=[reply.seconds],
        )
        if sum(map(len, reply.objects.values())) <= MOST_ENCLOSED:
            announcement = enclose(announcement, reply.objects)
        response = self._call(self._client.PushMessages, announcement)
        wanted = set(response.objects_to_push)
        for name, content in reply.objects.items():
            if name in wanted:
                self.beat()
                request = PushObjectRequest(
                    node=self._node,
                    run_id=run,
                    object_id=name,
                    object_content=content,
                    session_id=response.session_id,
                )
                if not self._call(self._client.PushObject, request).stored:
                    raise FleetTrouble(Trouble.UNEXPECTED, "an object of the reply was not stored")

    def confirm(self, pulled: PulledMessage) -> None:
        """Let the SuperLink forget the contents of `pulled`, once it has all of them.

        A gateway may have answered while the coordinator was still sending what it had no need of.
        An object that arrives after the confirmation is refused, which ends Flower's ServerApp.
        """
        metadata = pulled.announced.messages_list[0].metadata
        tree = pulled.announced.message_object_trees[0]
        record = _only_record(tree)
        if record is not None and not takes_one(metadata.group_id):
            for item in iterate_object_tree(tree):
                if item.object_id != record:
                    self._await(metadata.run_id, item.object_id)
        self._call(
            self._client.ConfirmMessageReceived,
            ConfirmMessageReceivedRequest(
                node=self._node,
                run_id=metadata.run_id,
                message_object_id=metadata.message_id,
            ),
        )

    def leave(self) -> None:
        """Say that this node goes, so that it is admitted again at once."""
        self._call(self._client.DeactivateNode, DeactivateNodeRequest(node_id=self.node))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _bounded(self, found: bytes | None, limit: int) -> bytes:
        """The content of one object, if it is there and not too long."""
        if found is None:
            text = "the contents of a message are not there any more"
            raise FleetTrouble(Trouble.RUN_ENDED, text)
        if len(found) > limit:
            raise RefusedMessage(Reason.TOO_LARGE, "A message is larger than is carried.")
        return found

    def _await(self, run: int, name: str) -> bytes | None:
        """The content of one object as soon as the coordinator has sent it; None if it is gone."""
        for pause in _OBJECT_PAUSES:
            self.beat()
            found = self._call(
                self._client.PullObject,
                PullObjectRequest(node=self._node, run_id=run, object_id=name),
            )
            if found.object_available:
                return bytes(found.object_content)
            if not found.object_found:
                break
            time.sleep(pause)
        return None

    def _call(self, method: Callable[[_Request], _Response], request: _Request) -> _Response:
        self.requests += 1
        try:
            try:
                return method(request)
            except _SENT_AGAIN:  # a connection that was kept alive had been closed meanwhile
                return method(request)
        except httpx.HTTPStatusError as error:
            raise self._refused(error.response) from None
        except httpx.TransportError as error:
            raise unreachable(error) from None
        except ValueError:
            raise FleetTrouble(Trouble.NO_FLEET, "its answer is not Flower's") from None

    def _refused(self, response: httpx.Response) -> FleetTrouble:
        status = response.status_code
        error = FlowerError.from_json(response.text)
        code = error.code if error is not None else None
        if code == ApiErrorCode.RUNTIME_VERSION_INCOMPATIBLE:
            return FleetTrouble(Trouble.VERSION, error.message if error else "")
        if code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
            return FleetTrouble(Trouble.NOT_ADMITTED, f"code {code}")
        if status == httpx.codes.UNAUTHORIZED:
            ahead = self._observer.ahead
            off = abs(ahead) >= _CLOCK_SECONDS
            return FleetTrouble(Trouble.CLOCK if off else Trouble.KEY_UNKNOWN, f"{ahead:.0f}")
        return FleetTrouble(
            _STATUS.get(status, Trouble.UNEXPECTED), f"HTTP {status}" + (f", {code}" * bool(code))
        )


_STATUS: Final = {
    403: Trouble.RUN_ENDED,  # flwr's own client takes it for that, too
    404: Trouble.NO_FLEET,
    405: Trouble.NO_FLEET,
    501: Trouble.NO_FLEET,
    413: Trouble.TOO_LARGE,
    429: Trouble.TOO_OFTEN,
    502: Trouble.NO_SUPERLINK,
    503: Trouble.NO_SUPERLINK,
    504: Trouble.NO_SUPERLINK,
}


def _only_record(tree: ObjectTree) -> str | None:
    """The id of the one object at the end of a message's chain, if it is a record's."""
    depth = 1
    while len(tree.children) == 1:
        tree, depth = tree.children[0], depth + 1
    return tree.object_id if depth in _RECORD_DEPTHS and not tree.children else None


def _message_in(contents: dict[str, bytes], name: str) -> Message:
    found = inflate_object_from_contents(name, contents)
    if not isinstance(found, Message):
        raise TypeError("the root of a message's objects is none")
    return found


def _unpacked(content: Callable[[], RecordDict]) -> bytes:
    try:
        return unpack(content())
    except _MALFORMED:
        raise WireError(
            "A Flower message is not what it claims to be.", "Check the coordinator's version."
        ) from None

"""Requests about nodes: whose they say they are, whether signed, whom they concern."""

from __future__ import annotations

import binascii
import datetime
from base64 import b64decode
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Final

from craftsfl.processes.flower.gate import address_of

if TYPE_CHECKING:
    from flwr.server.superlink.linkstate import LinkStateFactory

    from craftsfl.processes.flower.gate import Scope


_LONGEST_KEY: Final = 512  # bytes of a key that are told apart


def signed_by_a_node(factory: LinkStateFactory) -> Callable[[Scope], Awaitable[bool]]:
    """The check for one SuperLink. Flower makes it again, with the body, when that is there."""
    from starlette.concurrency import run_in_threadpool

    async def check(scope: Scope) -> bool:
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        return bool(await run_in_threadpool(is_signed, headers, factory))

    return check


def sender_of(scope: Scope) -> Hashable:
    """Whose request this is, as far as it says so: its address, and the key that it shows."""
    return address_of(scope), *_shown_keys(scope)[:1]


def shown_node_key(scope: Scope) -> bytes | None:
    """The node's key that a request shows; None for none, several or one that is none."""
    shown = _shown_keys(scope)
    return shown[0] if len(shown) == 1 and len(shown[0]) < _LONGEST_KEY else None


def has_no_message(answer: bytes) -> bool:
    """Whether this body of an answer to `pull-messages` holds no message."""
    from flwr.proto.fleet_pb2 import PullMessagesResponse
    from google.protobuf.message import DecodeError

    try:
        return not PullMessagesResponse.FromString(answer).messages_list
    except DecodeError:
        return False


def looking_node(body: bytes) -> int | None:
    """The node that asks `pull-messages` with this body; None where it names none."""
    from flwr.proto.fleet_pb2 import PullMessagesRequest
    from google.protobuf.message import DecodeError

    try:
        return int(PullMessagesRequest.FromString(body).node.node_id) or None
    except DecodeError:
        return None


def nodes_pushed_to(body: bytes) -> frozenset[int] | None:
    """The nodes for which the messages of a `push-messages` of the Runtime API are; None: any."""
    from flwr.proto.runtime_pb2 import PushAppMessagesRequest
    from google.protobuf.message import DecodeError

    try:
        messages = PushAppMessagesRequest.FromString(body).messages_list
    except DecodeError:
        return None
    return frozenset(int(message.metadata.dst_node_id) for message in messages)


def _shown_keys(scope: Scope) -> list[bytes]:
    from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER

    name = FLEET_HTTP_PUBLIC_KEY_HEADER.encode("ascii")
    return [value[:_LONGEST_KEY] for key, value in scope["headers"] if key.lower() == name]


def is_signed(headers: Mapping[str, bytes], factory: LinkStateFactory) -> bool:
    """Whether an admitted node has signed a moment that is still acceptable."""
    from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_HEADER, TIMESTAMP_TOLERANCE
    from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
    from flwr.supercore.date import now
    from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature

    try:
        key = b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
        signature = b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER], validate=True)
        stamp = headers[TIMESTAMP_HEADER]
        age = (now() - datetime.datetime.fromisoformat(stamp.decode("ascii"))).total_seconds()
        if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
            return False
        if factory.state().get_node_id_by_public_key(key) is None:
            return False
        return bool(verify_signature(bytes_to_public_key(key), stamp, signature))
    except (KeyError, ValueError, TypeError, AttributeError, binascii.Error):
        return False

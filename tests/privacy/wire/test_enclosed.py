"""Contents in a field that Flower does not know."""

from __future__ import annotations

import hashlib

import pytest
from flwr.proto import fleet_pb2, runtime_pb2
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest
from flwr.proto.node_pb2 import Node
from google.protobuf.message import Message

from privacy.wire.enclosed import (
    ENCLOSED_FIELD,
    enclose,
    enclosed_in,
    wish_enclosed,
    wishes_enclosed,
)

ANNOUNCED = PushMessagesRequest(node=Node(node_id=5), clientapp_runtime_list=[1.5])
CONTENTS = {hashlib.sha256(data).hexdigest(): data for data in (b"a", b"b" * 40_000, b"c" * 63)}


def test_contents_come_back_by_name() -> None:
    assert enclosed_in(enclose(ANNOUNCED, CONTENTS)) == CONTENTS
    assert enclosed_in(enclose(ANNOUNCED, {})) == {}
    assert not wishes_enclosed(enclose(ANNOUNCED, CONTENTS))


def test_the_bytes_are_the_announcements_and_then_one_field_for_each() -> None:
    name = "0" * 64
    enclosed = bytes(enclose(ANNOUNCED, {name: b"xy"}).SerializeToString())
    tag = bytes([0xC2, 0xBB, 0x03])  # field 7096, length-delimited
    assert enclosed == ANNOUNCED.SerializeToString() + tag + bytes([66]) + name.encode() + b"xy"


def test_whoever_does_not_know_the_field_reads_the_announcement() -> None:
    read = PushMessagesRequest.FromString(enclose(ANNOUNCED, CONTENTS).SerializeToString())
    assert (read.node, read.clientapp_runtime_list) == (ANNOUNCED.node, [1.5])
    read.DiscardUnknownFields()
    assert read == ANNOUNCED


def test_a_wish_is_a_wish_and_no_content() -> None:
    asked = wish_enclosed(PullMessagesRequest(node=Node(node_id=5)))
    assert wishes_enclosed(PullMessagesRequest.FromString(asked.SerializeToString()))
    assert enclosed_in(asked) == {}
    assert not wishes_enclosed(PullMessagesRequest(node=Node(node_id=5)))


@pytest.mark.parametrize(
    "field",
    [b"x" * 64, b"x" * 10, b"\xff" * 64 + b"content"],
    ids=["no content", "short", "no name"],
)
def test_what_is_no_content_is_left_out(field: bytes) -> None:
    raw = bytes([0xC2, 0xBB, 0x03, len(field)]) + field
    assert enclosed_in(PushMessagesRequest.FromString(raw)) == {}
    number = bytes([0xC0, 0xBB, 0x03, 7])  # the field, as a number
    assert enclosed_in(PushMessagesRequest.FromString(number)) == {}


@pytest.mark.parametrize(
    "message",
    [
        fleet_pb2.PullMessagesRequest,
        fleet_pb2.PullMessagesResponse,
        fleet_pb2.PushMessagesRequest,
        runtime_pb2.PullAppMessagesRequest,
        runtime_pb2.PullAppMessagesResponse,
        runtime_pb2.PushAppMessagesRequest,
    ],
)
def test_flower_has_no_such_field(message: type[Message]) -> None:
    assert ENCLOSED_FIELD not in message.DESCRIPTOR.fields_by_number

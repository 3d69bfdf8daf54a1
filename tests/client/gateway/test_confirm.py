"""The gateway lets the SuperLink forget a message only once the SuperLink has all of it."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PullMessagesResponse
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.task_identity import TaskIdentity

import client.gateway.fleet as fleet
from client.gateway.fleet import FleetLink, PulledMessage
from client.packing import pack

ENVELOPE = b"what the coordinator asks"


class SlowCoordinator:
    """A SuperLink that has the record at once, and each other object after some looks."""

    def __init__(self, late: int) -> None:
        message = Message(pack(ENVELOPE), dst_node_id=7, message_type="query.craftsfl")
        self.objects = {n: item.deflate() for n, item in get_all_nested_objects(message).items()}
        self.tree: ObjectTree = get_object_tree(message)
        message.metadata.__dict__["_message_id"] = message.object_id
        self.pulled = PulledMessage(
            PullMessagesResponse(
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[self.tree],
            )
        )
        self.record = self.tree.children[0].children[0].object_id
        self.looks = {name: 0 if name == self.record else late for name in self.objects}
        self.gone: set[str] = set()
        self.confirmed: list[bool] = []  # whether everything had arrived

    def PullObject(self, request: Any) -> SimpleNamespace:
        name = request.object_id
        there = self.looks[name] == 0
        self.looks[name] = max(0, self.looks[name] - 1)
        return SimpleNamespace(
            object_found=name not in self.gone,
            object_available=there and name not in self.gone,
            object_content=self.objects[name] if there else b"",
        )

    def ConfirmMessageReceived(self, request: Any) -> SimpleNamespace:
        assert request.message_object_id == self.tree.object_id
        self.confirmed.append(not any(self.looks.values()))
        return SimpleNamespace()


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages in a task alone."""
    for name, number in (("_run_id", 7), ("_node_id", 1), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, number)


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> FleetLink:
    monkeypatch.setattr(fleet, "_OBJECT_PAUSES", (0.0,) * 10)
    made = FleetLink(
        "localhost:1", ssl.create_default_context(), ec.generate_private_key(ec.SECP384R1())
    )
    monkeypatch.setattr(made, "beat", lambda: None)
    monkeypatch.setattr(made, "_call", lambda method, request: method(request))
    return made


def test_an_answer_does_not_wait_for_the_whole_message_and_the_confirmation_does(
    link: FleetLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = SlowCoordinator(late=3)
    monkeypatch.setattr(link, "_client", there)
    assert link.fetch(there.pulled, 1000) == ENVELOPE
    assert any(there.looks.values())
    link.confirm(there.pulled)
    assert there.confirmed == [True]


def test_what_the_superlink_has_forgotten_is_not_waited_for(
    link: FleetLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = SlowCoordinator(late=3)
    there.gone = set(there.objects) - {there.record}
    monkeypatch.setattr(link, "_client", there)
    link.confirm(there.pulled)
    assert len(there.confirmed) == 1

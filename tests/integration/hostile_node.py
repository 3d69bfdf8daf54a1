"""A node that is admitted and does to the SuperLink what none should, message by message."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from flwr.app import ConfigRecord, Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ObjectTree,
    PushObjectRequest,
)
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from bench.small_flower import SmallFlower
from client.gateway.fleet import FleetLink, PulledMessage
from client.gateway.options import load_key, load_tls
from client.gateway.trouble import FleetTrouble
from client.packing import pack

LARGEST = 1 << 20
_PAUSE = 0.1  # seconds; a node that asks without any is held up by the gate before it can do harm


class HostileNode:
    """Looks for messages all the time; the round of each says what it does with it.

    `done`: the file that it writes once what is seen twice cannot be registered any more.
    """

    def __init__(self, flower: SmallFlower, name: str, done: Path) -> None:
        site = flower.site(name)
        self.node = flower.register(site)
        self._done = done
        self._link = FleetLink(
            f"localhost:{flower.port}",
            load_tls(flower.link.credentials.authority),
            load_key(flower.folder / name / "supernode.key"),
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.acts: list[str] = []
        self._confirmed: list[PulledMessage] = []
        self._link.activate()
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        acts = {
            "1": self._confirm,
            "2": self._announce_only,
            "3": self._answer_with_a_record,
            "4": self._answer_for_another,
            "5": self._push_what_nobody_wants,
            "6": self._go_away,
            "7": self._keep,
        }
        while not self._stopped.is_set():
            with contextlib.suppress(FleetTrouble):
                if (pulled := self._link.pull()) is not None:
                    act = acts[pulled.announced.messages_list[0].metadata.group_id.split(";")[0]]
                    self.acts.append(act.__name__)
                    act(pulled)
                self._confirm_again()
            self._stopped.wait(_PAUSE)

    def _confirm(self, pulled: PulledMessage) -> None:
        """Now, and again and again from now on."""
        self._confirmed.append(pulled)
        self._confirm_again()

    def _confirm_again(self) -> None:
        for pulled in self._confirmed:
            metadata = pulled.announced.messages_list[0].metadata
            self._link._call(
                self._link._client.ConfirmMessageReceived,
                ConfirmMessageReceivedRequest(
                    node=self._link._node,
                    run_id=metadata.run_id,
                    message_object_id=metadata.message_id,
                ),
            )

    def _announce_only(self, pulled: PulledMessage) -> None:
        prepared = self._link.prepare(pulled, b"never sent", 0.0)
        self._announce(prepared.message, prepared.tree)

    def _answer_with_a_record(self, pulled: PulledMessage) -> None:
        """The root of the answer is no message."""
        record = ConfigRecord({"bytes": b"words"})
        message = self._reply(pulled)
        message.metadata.__dict__["_message_id"] = record.object_id
        tree = ObjectTree(object_id=record.object_id)
        self._push(message, self._announce(message, tree), record.object_id, record.deflate())

    def _answer_for_another(self, pulled: PulledMessage) -> None:
        """What is announced answers its own message, what is sent says another's."""
        question = message_from_proto(pulled.announced.messages_list[0])
        forged = Message(pack(self._link.fetch(pulled, LARGEST)), reply_to=question)
        forged.metadata.__dict__["_reply_to_message_id"] = "0" * 64
        announced = self._reply(pulled)
        announced.metadata.__dict__["_message_id"] = forged.object_id
        parts = {name: part.deflate() for name, part in get_all_nested_objects(forged).items()}
        answer = self._announce(announced, get_object_tree(forged))
        for name in answer.objects_to_push:
            self._push(announced, answer, name, parts[name])

    def _push_what_nobody_wants(self, pulled: PulledMessage) -> None:
        run = pulled.announced.messages_list[0].metadata.run_id
        for name, content in (("0" * 64, b"x"), ("f" * 64, b"")):
            self._link._call(
                self._link._client.PushObject,
                PushObjectRequest(
                    node=self._link._node, run_id=run, object_id=name, object_content=content
                ),
            )

    def _go_away(self, pulled: PulledMessage) -> None:
        self._link.leave()
        self._stopped.wait(1.0)
        self._link.activate()

    def _keep(self, pulled: PulledMessage) -> None:
        """Register what all have got, with other children, once the SuperLink has forgotten it."""
        self._link.fetch(pulled, LARGEST)
        self._confirm(pulled)
        contents = pulled.announced.message_object_trees[0].children[0].object_id
        message = self._reply(pulled)
        message.metadata.__dict__["_message_id"] = "e" * 64
        tree = ObjectTree(object_id="e" * 64, children=[ObjectTree(object_id=contents)])
        while not self._stopped.is_set():
            with contextlib.suppress(FleetTrouble):  # as long as the others' messages are there
                self._announce(message, tree)
                self._done.touch()
                return
            self._stopped.wait(0.1)

    def _reply(self, pulled: PulledMessage) -> Message:
        question = message_from_proto(pulled.announced.messages_list[0])
        return Message(pack(b"an answer"), reply_to=question)

    def _announce(self, message: Message, tree: ObjectTree) -> PushMessagesResponse:
        return self._link._call(
            self._link._client.PushMessages,
            PushMessagesRequest(
                node=self._link._node,
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[tree],
            ),
        )

    def _push(
        self, message: Message, answer: PushMessagesResponse, name: str, content: bytes
    ) -> None:
        self._link._call(
            self._link._client.PushObject,
            PushObjectRequest(
                node=self._link._node,
                run_id=message.metadata.run_id,
                object_id=name,
                object_content=content,
                session_id=answer.session_id,
            ),
        )

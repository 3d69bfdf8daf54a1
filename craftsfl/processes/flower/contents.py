"""Moving the contents that are enclosed in an announcement, with Flower's own handlers for them.

What a handler refuses to store stays on the list of what is wanted, and what it does not have is
not enclosed: whoever asked goes on as with any other SuperLink.
"""

# Why: docs/adr/0068-a-hundred-sites.md

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from privacy.wire.carriage import ONE_RECORD
from privacy.wire.enclosed import enclose, enclosed_in, wishes_enclosed

if TYPE_CHECKING:
    from flwr.proto.fleet_pb2 import (
        PullMessagesResponse,
        PushMessagesRequest,
        PushMessagesResponse,
    )
    from flwr.proto.message_pb2 import ObjectTree
    from flwr.proto.runtime_pb2 import (
        PullAppMessagesResponse,
        PushAppMessagesRequest,
        PushAppMessagesResponse,
    )
    from google.protobuf.message import Message

    Push = PushMessagesRequest | PushAppMessagesRequest
    Pushed = PushMessagesResponse | PushAppMessagesResponse
    Pulled = PullMessagesResponse | PullAppMessagesResponse

ALL_ENCLOSED: Final = 4 * 1024 * 1024  # bytes in one answer


@dataclass(frozen=True, slots=True)
class EnclosedContents:
    """Flower's handlers of one API that store an object, and fetch one."""

    push: Callable[..., Any]
    pull: Callable[..., Any]

    def moved(self, request: Message, answer: Message, more: tuple[object, ...]) -> Message:
        """`answer` to `request`, once contents of either were moved.

        `more`: what the handlers get beside the request.
        """
        from flwr.proto import fleet_pb2, runtime_pb2

        match answer:
            case fleet_pb2.PushMessagesResponse() | runtime_pb2.PushAppMessagesResponse():
                self._store(request, answer, more)  # type: ignore[arg-type]
            case fleet_pb2.PullMessagesResponse() | runtime_pb2.PullAppMessagesResponse():
                if wishes_enclosed(request):
                    return enclose(answer, self._fetched(answer, more))
        return answer

    def _store(self, request: Push, answer: Pushed, more: tuple[object, ...]) -> None:
        from flwr.proto.message_pb2 import PushObjectRequest
        from flwr.proto.node_pb2 import Node

        enclosed = enclosed_in(request)
        stored = set()
        for name in answer.objects_to_push if enclosed else ():
            if name in enclosed:
                metadata = request.messages_list[0].metadata
                question = PushObjectRequest(
                    node=Node(node_id=metadata.src_node_id),
                    run_id=metadata.run_id,
                    object_id=name,
                    object_content=enclosed[name],
                    session_id=answer.session_id,
                )
                if self.push(question, *more).stored:
                    stored.add(name)
        wanted = [name for name in answer.objects_to_push if name not in stored]
        del answer.objects_to_push[:]
        answer.objects_to_push.extend(wanted)

    def _fetched(self, answer: Pulled, more: tuple[object, ...]) -> dict[str, bytes]:
        from flwr.proto.message_pb2 import PullObjectRequest
        from flwr.proto.node_pb2 import Node

        found: dict[str, bytes] = {}
        left = ALL_ENCLOSED
        for message, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            name = innermost(tree)
            if name is None or left < ONE_RECORD:
                continue
            question = PullObjectRequest(
                node=Node(node_id=message.metadata.dst_node_id),
                run_id=message.metadata.run_id,
                object_id=name,
            )
            one = self.pull(question, *more)
            if one.object_available and len(one.object_content) <= ONE_RECORD:
                found[name] = bytes(one.object_content)
                left -= len(found[name])
        return found


def innermost(tree: ObjectTree) -> str | None:
    """The name of the object at the end of a chain; None where one has several parts."""
    while len(tree.children) == 1:
        tree = tree.children[0]
    return None if tree.children else str(tree.object_id)

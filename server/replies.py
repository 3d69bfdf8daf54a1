"""Fetching replies from a SuperLink, each by itself.

A reply is announced before its parts have arrived, and Flower's own `pull_messages` waits for the
parts of one reply, up to two hours, before it looks at the next. So a gateway that is killed while
it pushes, or a node that never pushes what it has announced, would hold up every other site and
the run. Here each reply has a thread of its own, and a limit.
"""

# Why: docs/adr/0034-run-life.md. Flower's own lines: HttpGrid.pull_messages, 1.41 and 1.42.

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import httpx
from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    inflate_object_from_contents,
    pull_objects,
)
from flwr.superlink.grid.http_grid import HttpGrid

LONGEST_FETCH = 600.0  # seconds for the parts of one reply: an adapter over a slow connection
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


@dataclass(slots=True)
class _Fetch:
    """A reply on its way. Exactly one of the last two is set in the end, by its thread."""

    thread: threading.Thread | None = None
    message: Message | None = None
    error: Exception | None = None


class ReplyFetcher:
    """Fetches the replies of the run that `grid` carries; not thread-safe, and never waits."""

    def __init__(self, grid: HttpGrid, longest: float = LONGEST_FETCH) -> None:
        self._grid = grid
        self._longest = longest
        self._closed = threading.Event()
        self._under_way: dict[str, _Fetch] = {}

    def fetch(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies to `message_ids` that are here by now, each once.

        One whose parts do not come is an error of Flower's. Raises httpx's errors.
        """
        asked = [key for key in message_ids if key not in self._under_way]
        if asked:
            found = self._grid._runtime_client.PullMessages(
                PullAppMessagesRequest(message_ids=asked)
            )
            for proto, tree in zip(found.messages_list, found.message_object_trees, strict=True):
                self._begin(proto, tree)
        ended = {k: f for k, f in self._under_way.items() if f.message or f.error}
        for key in ended:
            del self._under_way[key]
        for fetch in ended.values():
            if fetch.error is not None:
                raise fetch.error
        return [fetch.message for fetch in ended.values() if fetch.message is not None]

    def close(self) -> None:
        """Give up whatever is under way."""
        self._closed.set()

    def _begin(self, proto: ProtoMessage, tree: ObjectTree) -> None:
        fetch = _Fetch()
        fetch.thread = threading.Thread(
            target=self._fetch, args=(fetch, proto, tree), name="reply", daemon=True
        )
        self._under_way[proto.metadata.reply_to_message_id] = fetch
        fetch.thread.start()

    def _fetch(self, fetch: _Fetch, proto: ProtoMessage, tree: ObjectTree) -> None:
        try:
            fetch.message = self._whole(proto, tree)
        except ObjectPullError:
            pass
        except httpx.HTTPError as error:
            fetch.error = error
        finally:  # parts that are no message must not leave their site without an answer
            if fetch.message is None and fetch.error is None:
                fetch.message = _never_came(proto)

    def _whole(self, proto: ProtoMessage, tree: ObjectTree) -> Message:
        client, key = self._grid._runtime_client, proto.metadata.message_id
        run, node = self._grid.run.run_id, self._grid.node
        pull = make_pull_object_fn_protobuf(
            pull_object_protobuf=client.PullObject, node=node, run_id=run
        )

        def pull_unless_closed(object_id: str) -> bytes:
            if self._closed.is_set():
                raise ObjectPullError(object_id, "no longer wanted")
            return pull(object_id)

        contents = pull_objects(
            object_ids=[part.object_id for part in iterate_object_tree(tree)],
            pull_object_fn=pull_unless_closed,
            max_time=self._longest,
            max_tries_per_object=None,
            initial_backoff=_FIRST_PAUSE,
            backoff_cap=_LONGEST_PAUSE,
        )
        client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=node, run_id=run, message_object_id=key)
        )
        message = cast(Message, inflate_object_from_contents(key, contents))
        message.metadata.__dict__["_message_id"] = key
        return message


def _never_came(proto: ProtoMessage) -> Message:
    """Flower's error, as `HttpGrid.pull_messages` makes it."""
    metadata = Metadata(
        run_id=proto.metadata.run_id,
        message_id="",
        src_node_id=SUPERLINK_NODE_ID,
        dst_node_id=SUPERLINK_NODE_ID,
        message_type=SYSTEM_MESSAGE_TYPE,
        group_id="",
        ttl=0,
        reply_to_message_id=proto.metadata.reply_to_message_id,
        created_at=now().timestamp(),
    )
    return make_message(metadata=metadata, error=Error(ErrorCode.MESSAGE_UNAVAILABLE))

"""Fetching replies from a SuperLink, each by itself.

A reply is announced before its parts have arrived, and Flower's own `pull_messages` waits for the
parts of one reply, up to two hours, before it looks at the next. So a gateway that is killed while
it pushes, or a node that never pushes what it has announced, would hold up every other site and
the run. Here each reply is waited for by itself, and not for ever.

Of a small reply only the record is fetched, at once; a larger one has a thread of its own. What a
reply answers is what the SuperLink says, which has checked it, and never what stands in its parts:
those may be anything. Parts that are no message become one without contents.
"""

# Why: docs/adr/0034-run-life.md. Flower's own lines: HttpGrid.pull_messages, 1.41 and 1.42.

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

import httpx
from flwr.app import ConfigRecord, Error, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import message_from_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import ObjectTree, PullObjectRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import (
    get_object_type_from_object_content,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    inflate_object_from_contents,
    pull_objects,
)
from flwr.superlink.grid.http_grid import HttpGrid
from google.protobuf.message import DecodeError

from privacy.wire.carriage import ANSWER_GROUP, RECORD
from privacy.wire.enclosed import enclosed_in, wish_enclosed
from server.confirming import Confirmer
from server.pushing import only_record

LONGEST_FETCH: Final = 600.0  # seconds for the parts of one reply: an adapter, a slow connection
LARGEST_REPLY: Final = 512 * 1024 * 1024  # bytes; no adapter comes near it
MOST_PARTS: Final = 1000  # of one reply; Flower's largest part has 5 MB
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_LONGEST_REST: Final = 1.0  # seconds between two looks for announcements
# What flwr raises for contents that are not what they claim to be.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError, DecodeError)


@dataclass(slots=True)
class _Reply:
    """A reply on its way. At most one of the last two is set in the end."""

    proto: ProtoMessage
    tree: ObjectTree
    began: float
    content: bytes | None  # of a small one, if it came with the announcement
    due: float = 0.0  # when a small one is looked for again, monotonic
    pause: float = _FIRST_PAUSE
    message: Message | None = None
    error: Exception | None = None


class ReplyFetcher:
    """Fetches the replies of the run that `grid` carries; not thread-safe, and never waits."""

    def __init__(self, grid: HttpGrid, longest: float = LONGEST_FETCH) -> None:
        self._grid = grid
        self._longest = longest
        self._next = 0.0  # when the SuperLink is asked for announcements again, monotonic
        self._closed = threading.Event()
        self._under_way: dict[str, _Reply] = {}
        self._confirmer = Confirmer(grid)
        # Nodes whose last answer was a gateway's that takes a record alone.
        self.gateways: set[int] = set()

    def fetch(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies to `message_ids` that are here by now, each once.

        One whose parts do not come is an error of Flower's. Raises httpx's errors.
        """
        asked = [key for key in message_ids if key not in self._under_way]
        if asked and time.monotonic() >= self._next:
            began = time.monotonic()
            found = self._grid._runtime_client.PullMessages(
                wish_enclosed(PullAppMessagesRequest(message_ids=asked))
            )
            # Looking for many costs the SuperLink the time in which it would take the replies.
            heard = time.monotonic()
            self._next = heard + min(heard - began, _LONGEST_REST)
            contents = enclosed_in(found)
            for proto, tree in zip(found.messages_list, found.message_object_trees, strict=True):
                content = contents.get(only_record(tree) or "")
                self._begin(_Reply(proto, tree, time.monotonic(), content))
        for reply in self._under_way.values():
            if (record := only_record(reply.tree)) is not None:
                self._look(reply, record)
        ended = {k: f for k, f in self._under_way.items() if f.message or f.error}
        for key in ended:
            del self._under_way[key]
        for reply in ended.values():
            if reply.error is not None:
                raise reply.error
        return [reply.message for reply in ended.values() if reply.message is not None]

    def close(self) -> None:
        """Give up whatever is under way."""
        self._closed.set()
        self._confirmer.close()

    def _begin(self, reply: _Reply) -> None:
        metadata = reply.proto.metadata
        if metadata.group_id == ANSWER_GROUP:
            self.gateways.add(metadata.src_node_id)
        else:
            self.gateways.discard(metadata.src_node_id)
        self._under_way[metadata.reply_to_message_id] = reply
        if reply.proto.HasField("error"):
            self.gateways.clear()  # one of them may be Flower's own SuperNode by now
            reply.message = message_from_proto(reply.proto)
            self._confirmer.confirm(metadata, reply.tree)
        elif only_record(reply.tree) is None:
            thread = threading.Thread(target=self._fetch, args=(reply,), name="reply", daemon=True)
            thread.start()

    def _look(self, reply: _Reply, record: str) -> None:
        """Fetch the one record of a small reply, if it is there."""
        moment = time.monotonic()
        if reply.message is not None or moment < reply.due:
            return
        if reply.content is not None:
            self._arrived(reply, reply.content)
            return
        found = self._grid._runtime_client.PullObject(
            PullObjectRequest(node=self._grid.node, run_id=self._grid.run.run_id, object_id=record)
        )
        if found.object_available:
            self._arrived(reply, bytes(found.object_content))
        elif not found.object_found or moment - reply.began > self._longest:
            reply.message = _never_came(reply.proto)
        else:
            reply.due = moment + reply.pause
            reply.pause = min(2 * reply.pause, _LONGEST_PAUSE)

    def _arrived(self, reply: _Reply, content: bytes) -> None:
        reply.message = _message(reply.proto, lambda: _record_in(content))
        self._confirmer.confirm(reply.proto.metadata, reply.tree)

    def _fetch(self, reply: _Reply) -> None:
        """In a thread: fetch all of a larger reply."""
        message = None
        try:
            contents, root = self._contents(reply.tree), reply.tree.object_id
            message = _message(reply.proto, lambda: _content_in(contents, root))
            self._confirmer.confirm(reply.proto.metadata, reply.tree)
        except ObjectPullError:
            pass
        except httpx.HTTPError as error:
            reply.error = error
        finally:  # a site is never left without an answer
            if reply.error is None:
                reply.message = message or _never_came(reply.proto)

    def _contents(self, tree: ObjectTree) -> dict[str, bytes]:
        pull = make_pull_object_fn_protobuf(
            pull_object_protobuf=self._grid._runtime_client.PullObject,
            node=self._grid.node,
            run_id=self._grid.run.run_id,
        )
        left = LARGEST_REPLY
        names = [part.object_id for part in islice(iterate_object_tree(tree), MOST_PARTS + 1)]
        if len(names) > MOST_PARTS:
            raise ObjectPullError(tree.object_id, "too many parts")

        def pull_within_bounds(object_id: str) -> bytes:
            nonlocal left
            if self._closed.is_set() or left < 0:
                raise ObjectPullError(object_id, "no longer wanted")
            content = pull(object_id)
            left -= len(content)
            return content

        return pull_objects(
            object_ids=names,
            pull_object_fn=pull_within_bounds,
            max_time=self._longest,
            max_tries_per_object=None,
            initial_backoff=_FIRST_PAUSE,
            backoff_cap=_LONGEST_PAUSE,
        )


def _content_in(contents: dict[str, bytes], root: str) -> RecordDict:
    found = inflate_object_from_contents(root, contents)
    if not isinstance(found, Message):
        raise TypeError("the root of a reply's objects is no message")
    return found.content


def _record_in(content: bytes) -> RecordDict:
    if get_object_type_from_object_content(content) != ConfigRecord.__qualname__:
        raise TypeError("the object is no record of bytes")
    return RecordDict({RECORD: ConfigRecord.inflate(content)})


def _message(proto: ProtoMessage, content: Callable[[], RecordDict]) -> Message:
    """The reply that the SuperLink announced; whatever else `content` is, there is none in it."""
    try:
        found = content()
    except _MALFORMED:
        found = RecordDict()
    metadata = message_from_proto(proto).metadata
    return make_message(metadata, content=found if isinstance(found, RecordDict) else RecordDict())


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

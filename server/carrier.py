"""The Flower run that carries a run of ours: when it is lost, the run is not.

Flower ends a ServerApp's access when it believes that the process is dead (for instance after it
stood still for a minute), when somebody stops the Flower run, or when the SuperLink is away for
longer than its own retries last. Then this ServerApp can do nothing more, and the next one goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

from server.life import RunInterrupted
from server.pushing import Enclosing, push_all
from server.replies import ReplyFetcher


class CarriedGrid(Grid):
    """`grid`, with Flower's network errors as `RunInterrupted`; no node spoils another's messages.

    `close` ends what is under way.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._replies = ReplyFetcher(grid) if isinstance(grid, HttpGrid) else None
        self._enclosing = Enclosing()

    def close(self) -> None:
        """Fetch nothing any more."""
        if self._replies is not None:
            self._replies.close()

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run."""
        return self._grid.run

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
        """The nodes that are connected."""
        with _carried():
            return list(self._grid.get_node_ids())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send `messages`; the id of one that was not accepted is ""."""
        with _carried():
            if isinstance(self._grid, HttpGrid) and self._replies is not None:
                return push_all(self._grid, list(messages), self._replies.gateways, self._enclosing)
            try:
                return list(self._grid.push_messages(messages))
            except ObjectPushError:  # of a grid of Flower's other than the SuperLink's
                return []

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that have arrived."""
        with _carried():
            if self._replies is not None:
                return self._replies.fetch(message_ids)
            return list(self._grid.pull_messages(message_ids))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Send `messages` and wait for the replies."""
        with _carried():
            return list(self._grid.send_and_receive(messages, timeout=timeout))


@contextmanager
def _carried() -> Iterator[None]:
    """Flower's own client has retried whatever may pass by itself."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise _lost(f"it answers with status {error.response.status_code}") from None
    except httpx.HTTPError as error:
        raise _lost(type(error).__name__) from None
    except ValueError:  # of Flower's client, for an answer that was cut off
        raise _lost("its answer cannot be read") from None


def _lost(why: str) -> RunInterrupted:
    return RunInterrupted(
        f"The SuperLink no longer serves this ServerApp ({why}).",
        "The run goes on under another one: craftsfl rounds serve starts it.",
    )

"""Having the SuperLink forget the replies that were fetched, when there is time.

Not before a reply has arrived as a whole: a part that comes after the confirmation is refused, and
the site's gateway would take that for a failure. A gateway of ours sends last what was fetched.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import islice
from typing import Final

import httpx
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    Metadata,
    ObjectTree,
    PullObjectRequest,
)
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.superlink.grid.http_grid import HttpGrid

from privacy.wire.carriage import ANSWER_GROUP

_PAUSE: Final = 0.5  # seconds: an exchange's other replies come first
_MOST_PARTS: Final = 1000  # that are looked for
_LONGEST_SECONDS: Final = 60.0  # that one is waited for


@dataclass(slots=True)
class _Fetched:
    key: str
    missing: list[str]  # parts that may not have arrived yet
    since: float


class Confirmer:
    """A thread that confirms, once there is something to confirm."""

    def __init__(self, grid: HttpGrid, pause: float = _PAUSE) -> None:
        self._grid, self._pause = grid, pause
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._fetched: list[_Fetched] = []
        self._thread: threading.Thread | None = None

    def confirm(self, metadata: Metadata, tree: ObjectTree) -> None:
        """Confirm the reply with this `metadata`, of which all that is needed has been fetched."""
        parts = [part.object_id for part in islice(iterate_object_tree(tree), _MOST_PARTS)]
        missing = [] if metadata.group_id == ANSWER_GROUP else parts
        with self._lock:
            self._fetched.append(_Fetched(metadata.message_id, missing, time.monotonic()))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="confirm", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Confirm nothing any more: Flower forgets everything of a run that has ended."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._pause):
            with self._lock:
                fetched, self._fetched = self._fetched, []
            later = [one for one in fetched if not self._confirmed(one)]
            with self._lock:
                self._fetched = later + self._fetched

    def _confirmed(self, one: _Fetched) -> bool:
        client, node, run = self._grid._runtime_client, self._grid.node, self._grid.run.run_id
        try:
            while one.missing and time.monotonic() - one.since < _LONGEST_SECONDS:
                name = one.missing[-1]
                found = client.PullObject(PullObjectRequest(node=node, run_id=run, object_id=name))
                if found.object_found and not found.object_available:
                    return False
                one.missing.pop()
            client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(node=node, run_id=run, message_object_id=one.key)
            )
        except httpx.HTTPError:
            return True  # what the exchanges ask for next says it at the right place
        return True

"""The gateways of hospitals that were added, admitted by the SuperLink as soon as it answers.

To be admitted lets a gateway connect and nothing else: for whom it speaks, its site's key says.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from craftsfl.processes.flower.commands import SuperLink
from craftsfl.processes.flower.control import register_node
from craftsfl.terminal import say
from privacy.error_ids import ErrorId
from privacy.errors import CraftsflError
from server.settings import ConsortiumSettings

_LOOK_SECONDS: Final = 1.0
_PASSING: Final = frozenset({ErrorId.SUPERLINK_SILENT, ErrorId.SUPERLINK_REFUSED})


class Admissions:
    """Admits every key beside a card (`cards/NAME.pub`), also those that come while it runs."""

    def __init__(self, consortium: ConsortiumSettings, link: SuperLink) -> None:
        self._folder = consortium.invitation.cards if consortium.invitation else None
        self._link = link
        self._admitted: set[tuple[str, bytes]] = set()
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="admissions")
        self._work: Future[None] | None = None
        self._due = 0.0

    def tick(self) -> None:
        """Look, if it is time to; never waits."""
        if self._folder is None or (self._work is not None and not self._work.done()):
            return
        if self._work is not None:
            self._work.result()
            self._work = None
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _LOOK_SECONDS
            self._work = self._threads.submit(self.look, self._folder)

    def look(self, folder: Path) -> None:
        """Admit the keys that are new."""
        for path in sorted(folder.glob("*.pub")):
            key = path.name, path.read_bytes()
            if key not in self._admitted and self._admit(path):
                self._admitted.add(key)

    def close(self) -> None:
        """Look no longer."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _admit(self, path: Path) -> bool:
        """Whether there is nothing left to do about this key."""
        try:
            register_node(self._link, path)
        except CraftsflError as error:
            if error.id in _PASSING:
                return False
            if error.id != ErrorId.KEY_ADMITTED:
                say(f"The gateway of {path.stem} cannot be admitted: {error}", logging.WARNING)
            return True
        say(f"The gateway of {path.stem} is admitted.")
        return True

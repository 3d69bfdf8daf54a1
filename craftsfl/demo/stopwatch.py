"""How long each phase of the demo takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import psutil


class Stopwatch:
    """Seconds of each phase, by name and in order; `began`: when the command started."""

    def __init__(self) -> None:
        self.began = time.monotonic() - (time.time() - psutil.Process().create_time())
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - start

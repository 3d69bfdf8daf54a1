"""What both implementations are measured with: a cell, a watch, and its result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

CPU = time.process_time  # of all threads: other load on the machine matters less


@dataclass(frozen=True)
class SecAggCell:
    """`n` sites, `d` parameters, `bits` a field, `dropped` sites that never send their vector."""

    n: int
    d: int
    bits: int
    dropped: int


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one site and of the server, and one site's bytes, for a whole attempt."""

    client_s: float
    server_s: float
    bytes_up: int
    bytes_down: int


class Watch:
    """Adds up the CPU seconds spent inside `running`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what happens inside."""
        start = CPU()
        try:
            yield
        finally:
            self.seconds += CPU() - start


def fastest(run: Callable[[], object], repeats: int) -> float:
    """The least CPU seconds of `repeats` calls."""
    samples = []
    for _ in range(repeats):
        start = CPU()
        run()
        samples.append(CPU() - start)
    return min(samples)

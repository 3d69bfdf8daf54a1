"""Row "step": what the log adds to a step of three real sites' agents and their coordinator.

The same study of so many steps is run with a log and without, in turn, in one process: ledgers,
messages, signatures and files are real. `seconds` and `cpu` are the difference, by the wall and of
the processor, for each step; everything of three sites is counted one after the other. With the
log's beginning in it: rosters, first cosignatures, and what is said after the last step.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

from bench.audit.made import StudySize, made_study
from bench.output import BenchRow

_STEPS: Final = 30
_TIMES: Final = 5


def measure(quick: bool) -> Iterator[BenchRow]:
    """One row."""
    steps, times = (3, 1) if quick else (_STEPS, _TIMES)
    pairs = [(_run(steps, log=True), _run(steps, log=False)) for _ in range(times)]
    wall, used = (
        median((with_log[place] - without[place]) / steps for with_log, without in pairs)
        for place in range(2)
    )
    yield {
        "what": "step",
        "sites": 3,
        "steps": steps,
        "seconds": round(wall, 4),
        "cpu": round(used, 4),
        "load": round(os.getloadavg()[0], 1),
    }


def _run(steps: int, *, log: bool) -> tuple[float, float]:
    """Seconds by the wall, and of the processor, of a whole study."""
    with tempfile.TemporaryDirectory() as folder:
        wall, used = time.perf_counter(), time.process_time()
        made_study(Path(folder), "pooled", StudySize(rounds=steps, log=log), "step")
        return time.perf_counter() - wall, time.process_time() - used

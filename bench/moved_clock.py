"""A program on a machine whose clock is moved while it runs.

`python -P -m bench.moved_clock FILE MODULE ARGUMENTS…`: FILE holds the seconds by which the clock
is ahead, as a double. Only Python's clocks are moved, and only the ones that tell the time of day.
"""

from __future__ import annotations

import datetime
import mmap
import os
import runpy
import struct
import sys
import time
from pathlib import Path
from typing import Final

_SECONDS: Final = "d"


def write_shift(file: Path, seconds: float) -> None:
    """Move the clocks of all who look at `file`, from now on."""
    with file.open("r+b" if file.exists() else "w+b") as stream:  # the same file, in place
        stream.write(struct.pack(_SECONDS, seconds))


def move_clocks(file: Path) -> None:
    """Let `time.time` and `datetime.now` follow `file` in this process, which need not stay open.

    To be called before anything takes one of them by its name.
    """
    descriptor = os.open(file, os.O_RDONLY)
    shift = mmap.mmap(descriptor, struct.calcsize(_SECONDS), prot=mmap.PROT_READ)
    os.close(descriptor)
    real_time, real = time.time, datetime.datetime

    def ahead() -> float:
        return float(struct.unpack(_SECONDS, shift[:])[0])

    class Shifted(real):  # type: ignore[misc, valid-type]
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real.now(tz) + datetime.timedelta(seconds=ahead())

    time.time = lambda: real_time() + ahead()
    datetime.datetime = Shifted  # type: ignore[misc]


if __name__ == "__main__":
    move_clocks(Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

"""A process that ends with the one that started it, even if that one is killed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

PARENT: Final = "CRAFTSFL_PARENT"  # the variable that names the parent's process id
_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send `number` to this process when the one named by `PARENT` ends.

    Without that variable, and on systems other than Linux, nothing happens. What Linux watches is
    the parent's thread that started this process, so start lasting ones from a lasting thread.
    """
    parent = os.environ.pop(PARENT, "")
    if not parent or sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before the kernel was asked
        signal.raise_signal(number)

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(happens: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Whether it happens within `seconds`; true at once when it does."""
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True

"""How often somebody may ask: a bucket of tokens each, which fills again at a steady rate."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

_MOST: Final = 10_000  # buckets; whoever's is forgotten has a full one again


class TokenBuckets:
    """A bucket for everybody: `burst` requests at once, and `rate` a second for ever.

    Not thread-safe. `clock` is monotonic, in seconds.
    """

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def takes(self, who: Hashable) -> bool:
        """Whether `who` may ask now; takes a token if so."""
        now = self._clock()
        left, since = self._left.pop(who, (self._burst, now))
        left = min(self._burst, left + self._rate * (now - since))
        may = left >= 1.0
        self._left[who] = (left - 1.0 if may else left, now)
        if len(self._left) > _MOST:
            self._left.popitem(last=False)
        return may

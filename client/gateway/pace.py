"""How long to wait between two looks for messages."""

from __future__ import annotations

from dataclasses import dataclass

_PART_OF_SILENCE = 0.01  # a look every 0.5 s after 50 s, every 3 s after 5 minutes
_TIMES_A_LOOK = 1.0  # a SuperLink that takes long has much to do
_HELD_LEAST = 0.5  # seconds: a shorter hold would let a coordinator have a gateway ask all the time
_WITHOUT_WISH = 1.0  # seconds: nobody has asked anything yet


@dataclass(frozen=True, slots=True)
class Pace:
    """The site's bounds, in seconds: the coordinator's wish is followed within them."""

    fastest: float = 0.1
    slowest: float = 3.0

    def bounded(self, wish: float | None) -> float:
        """The coordinator's `wish`, or what is used without one, within the bounds."""
        return min(max(wish or _WITHOUT_WISH, self.fastest), self.slowest)

    def wait(
        self, silence: float, wish: float | None, took: float = 0.0, *, held: bool = False
    ) -> float:
        """Seconds to the next look after `silence` seconds without a message.

        A small part of the silence: what was waited for long may be found a little later. And at
        least what the last look `took`: a SuperLink that is behind with its work is asked less. One
        that has `held` its answer for a while, until there might be a message, is asked again soon.
        """
        if held and took >= _HELD_LEAST:
            return self.fastest
        wished = max(self.bounded(wish), _PART_OF_SILENCE * silence, _TIMES_A_LOOK * took)
        return min(wished, self.slowest)

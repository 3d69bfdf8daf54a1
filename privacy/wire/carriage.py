"""How envelopes travel in Flower's messages: in which packing, and how often to look for the next.

Flower stores a message as a tree of objects and moves each with a signed request of its own. A
small envelope is one `ConfigRecord`: three objects, of which a gateway has to fetch one. A large
one is a raw `Array`, which Flower cuts into objects of 5 MB: at least five. Measurements:
docs/adr/0031-gateway.md.

The coordinator knows how many sites look for messages in its database, so it says with each message
how long to wait between two looks. It says it in the message's group, which travels with the
message itself and costs no object: "ROUND;look=SECONDS". A site bounds what it follows.
"""

from __future__ import annotations

import math

ACTION = "craftsfl"  # message types "query.craftsfl" and "train.craftsfl"
RECORD = "envelope"  # the name of the one record
ARRAY = "bytes"  # the name of what is in it: bytes, or an Array of dtype uint8 and shape [length]
ARRAY_TYPE = "craftsfl.envelope"  # the Array's serialisation type: the envelope's bytes as they are
ONE_RECORD = 512 * 1024  # bytes; a larger envelope travels in pieces

_LOOK = ";look="
_LONGEST_GROUP = 64  # characters of a group that are looked at


def group_of(number: int, look: float) -> str:
    """The group of a message of round `number`, with the wish to be asked every `look` seconds."""
    return f"{number}{_LOOK}{look:.3g}"


def look_in(group: str) -> float | None:
    """The seconds that a message's group wishes for; None if it wishes for nothing sensible."""
    _, found, wish = group[:_LONGEST_GROUP].partition(_LOOK)
    try:
        seconds = float(wish) if found else 0.0
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None

"""How envelopes travel in Flower's messages: in which packing, and how often to look for the next.

Flower stores a message as a tree of objects and moves each with a signed request of its own. A
small envelope is one `ConfigRecord`: three objects, of which a gateway has to fetch one. A large
one is a raw `Array`, which Flower cuts into objects of 5 MB: at least five. Measurements:
docs/adr/0031-gateway.md.

The coordinator knows how many sites look for messages in its database, so it says with each message
how long to wait between two looks. It says it in the message's group, which travels with the
message itself and costs no object: "ROUND;one;look=SECONDS". A site bounds what it follows.

"one" says that the coordinator takes an answer that is its record alone, without a message and
contents around it, which only repeat what is announced; a gateway's answer says the same in its own
group, and is then asked in that way, too. Whoever says it sends the record last where there is more
around it: who can fetch the record may then have the SuperLink forget all of it.

A record has a salt. Flower names objects by their contents, for all nodes together: so no two
messages share a record, and nobody can know or spoil a name before it is used. The pieces of a
large envelope are shared by all sites that get it; it has a salt only where it is sent again
because it was refused.
"""

from __future__ import annotations

import math

ACTION = "craftsfl"  # message types "query.craftsfl" and "train.craftsfl"
RECORD = "envelope"  # the name of the one record
ARRAY = "bytes"  # the name of what is in it: bytes, or an Array of dtype uint8 and shape [length]
ARRAY_TYPE = "craftsfl.envelope"  # the Array's serialisation type: the envelope's bytes as they are
SALTED_ARRAY_TYPE = "craftsfl.envelope.salted"  # SALT_BYTES random bytes, then the envelope's
ONE_RECORD = 512 * 1024  # bytes; a larger envelope travels in pieces

SALT = "salt"  # beside ARRAY in a record: random bytes
SALT_BYTES = 16
ANSWER_GROUP = "answer;one"  # of a gateway's answer

# A header of a look: the SuperLink may hold its answer until a message comes, and says if it did.
LOOK_HEADER, HOLD, HELD = "craftsfl-look", "hold", "held"

_ONE = ";one"
_LOOK = ";look="
_LONGEST_GROUP = 64  # characters of a group that are looked at


def group_of(number: int, look: float) -> str:
    """The group of a message of round `number`, with the wish to be asked every `look` seconds."""
    return f"{number}{_ONE}{_LOOK}{look:.3g}"


def takes_one(group: str) -> bool:
    """Whether whoever sent a message with this group sends its record last, and takes it alone."""
    return _ONE in group[:_LONGEST_GROUP]


def look_in(group: str) -> float | None:
    """The seconds that a message's group wishes for; None if it wishes for nothing sensible."""
    _, found, wish = group[:_LONGEST_GROUP].partition(_LOOK)
    try:
        seconds = float(wish) if found else 0.0
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None

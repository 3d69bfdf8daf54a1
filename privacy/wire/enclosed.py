"""Contents of small records that travel with the message that announces them.

Flower announces a message in one request and moves its contents in others. A coordinator's
SuperLink behind our gate, our gateways and our ServerApp save those: contents travel in a field of
the announcement that Flower does not know, and therefore ignores. So nobody has to know who is at
the other end: a SuperLink that has not taken a content says, as ever, that it wants it, and a
gateway that got none asks for it. An empty field in a question asks for contents in the answer.
"""

# Why: docs/adr/0068-a-hundred-sites.md

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

ENCLOSED_FIELD: Final = 7096  # of Flower's messages; none of them has so many
MOST_ENCLOSED: Final = 48 * 1024  # bytes in a gateway's request: a small one for the gate

_TAG: Final = bytes([0xC2, 0xBB, 0x03])  # the field, length-delimited
_NAME: Final = 64  # characters of an object's name: a SHA-256 in hexadecimal
_LENGTH_DELIMITED: Final = 2

_Announcement = TypeVar("_Announcement", bound=Message)


def enclose(message: _Announcement, contents: Mapping[str, bytes]) -> _Announcement:
    """`message` with `contents` by name; each name has 64 ASCII characters."""
    parts = [bytes(message.SerializeToString())]
    for name, content in contents.items():
        parts += (_TAG, _varint(_NAME + len(content)), name.encode("ascii"), content)
    return type(message).FromString(b"".join(parts))


def wish_enclosed(message: _Announcement) -> _Announcement:
    """`message` as a question whose answer may enclose contents."""
    return type(message).FromString(bytes(message.SerializeToString()) + _TAG + b"\0")


def wishes_enclosed(message: Message) -> bool:
    """Whether the answer to `message` may enclose contents."""
    return b"" in _fields(message)


def enclosed_in(message: Message) -> dict[str, bytes]:
    """The contents in `message`, by name; what is no content is left out."""
    found = (field for field in _fields(message) if len(field) > _NAME and field[:_NAME].isascii())
    return {field[:_NAME].decode("ascii"): field[_NAME:] for field in found}


def _fields(message: Message) -> list[bytes]:
    unknown = UnknownFieldSet(message)
    return [
        bytes(field.data)
        for field in (unknown[number] for number in range(len(unknown)))
        if field.field_number == ENCLOSED_FIELD and field.wire_type == _LENGTH_DELIMITED
    ]


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*digits, number))

"""Text of another party's, as it is shown to a person: nothing in it looks like what it is not.

A Cyrillic letter looks like a Latin one, a bidirectional control turns a name round, and an escape
sequence writes over the line above. So whatever is not plain ASCII carries its code point, and
what is no letter shows nothing else.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_OPEN, _CLOSE = "{", "}"  # those of a text itself are marked too, so that no mark can be forged
_STEERING: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def marked(text: str) -> str:
    """A name as it is shown: "Köln" becomes "Kö{U+00F6}ln"; a plain ASCII one stays as it is."""
    return "".join(map(_marked, text))


def printable(text: str) -> str:
    """A message as it is shown: its letters stay, what would steer a terminal is marked.

    Ends of lines stay too.
    """
    return "".join(
        char if char == "\n" or unicodedata.category(char) not in _STEERING else _mark(char)
        for char in text
    )


def _marked(char: str) -> str:
    if char.isascii() and char.isprintable() and char not in (_OPEN, _CLOSE):
        return char
    # A letter from right to left would take the mark behind it along to its own side.
    letter = char.isalpha() and unicodedata.bidirectional(char) == "L"
    return (char if letter and not char.isascii() else "") + _mark(char)


def _mark(char: str) -> str:
    return f"{_OPEN}U+{ord(char):04X}{_CLOSE}"

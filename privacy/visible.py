"""Untrusted text on a terminal: whatever cannot be seen is spelled out, so that it has no effect.

A picture's prompt, a tensor's name or a file's name may contain terminal escapes (ECMA-48),
characters that reverse the direction of a line (UAX 9) or characters without any width: `visible`
spells them out. A name, by which somebody is recognised, is shown by `marked`, which also shows
the code point of, say, a Cyrillic letter that looks like a Latin one.
"""

from __future__ import annotations

import unicodedata
from typing import Final

# Printable to Python, and yet invisible: fillers, joiners, variation selectors, blanks
# (Unicode's Default_Ignorable_Code_Point where `isprintable` does not refuse it, and U+2800).
_UNSEEN = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE0100, 0xE01EF),
)


def visible(text: str, *, most: int | None = None, keep: str = "") -> str:
    r"""`text` with every active or hidden character written as \xNN, \uNNNN or \UNNNNNNNN.

    Those are control and format characters, line ends, separators other than the space,
    surrogates, private and unassigned code points, and invisible characters, except those in
    `keep`. A text of more than `most` characters is cut and ends in "…".
    """
    short = text if most is None or len(text) <= most else text[: most - 1] + "…"
    return "".join(char if char in keep or _is_seen(char) else _written(char) for char in short)


def _is_seen(char: str) -> bool:
    code = ord(char)
    return char.isprintable() and not any(low <= code <= high for low, high in _UNSEEN)


def _written(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_OPEN: Final = "{"  # braces in the name itself are marked too, so that no mark can be forged
_CLOSE: Final = "}"


def marked(name: str) -> str:
    """A name as people see it: "Köln" becomes "Kö{U+00F6}ln"; plain ASCII stays as it is."""
    return "".join(map(_marked, name))


def _marked(char: str) -> str:
    if char.isascii() and char.isprintable() and char not in (_OPEN, _CLOSE):
        return char
    # A right-to-left letter would pull the mark that follows it to its own side.
    letter = char.isalpha() and unicodedata.bidirectional(char) == "L" and not char.isascii()
    return (char if letter else "") + f"{_OPEN}U+{ord(char):04X}{_CLOSE}"

"""Texts of others, for a terminal: what cannot be seen is written out, so that it cannot act.

A picture's prompt, a tensor's name or a file's name may hold terminal escapes (ECMA-48), signs
that turn the direction of a line (UAX 9) or signs without any width: `visible` writes them out.
A name, by which somebody is recognised, is shown by `marked`: there a Cyrillic letter that looks
like a Latin one carries its code point as well.
"""

from __future__ import annotations

import unicodedata
from typing import Final

# Printable for Python, and yet nothing is seen: fillers, joiners, variation selectors, blanks
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
    r"""`text` with every sign that acts or hides written as \xNN, \uNNNN or \UNNNNNNNN.

    Those are control and format characters, line ends, separators other than the space,
    surrogates, private and unassigned code points, and signs that show nothing; not those in
    `keep`. A longer text than `most` signs ends in "…".
    """
    short = text if most is None or len(text) <= most else text[: most - 1] + "…"
    return "".join(sign if sign in keep or _is_seen(sign) else _written(sign) for sign in short)


def _is_seen(sign: str) -> bool:
    code = ord(sign)
    return sign.isprintable() and not any(low <= code <= high for low, high in _UNSEEN)


def _written(sign: str) -> str:
    code = ord(sign)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_OPEN: Final = "{"  # those of a name itself are marked too, so that no mark can be forged
_CLOSE: Final = "}"


def marked(name: str) -> str:
    """A name as it is shown: "Köln" becomes "Kö{U+00F6}ln"; a plain ASCII one stays as it is."""
    return "".join(map(_marked, name))


def _marked(char: str) -> str:
    if char.isascii() and char.isprintable() and char not in (_OPEN, _CLOSE):
        return char
    # A letter from right to left would take the mark behind it along to its own side.
    letter = char.isalpha() and unicodedata.bidirectional(char) == "L" and not char.isascii()
    return (char if letter else "") + f"{_OPEN}U+{ord(char):04X}{_CLOSE}"

"""Texts of others, for a terminal: what cannot be seen is written out, so that it cannot act.

A picture's prompt, a tensor's name or a file's name may hold terminal escapes (ECMA-48), signs
that turn the direction of a line (UAX 9) or signs without any width.
"""

from __future__ import annotations

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

"""Names that somebody else chose, in a line that a person reads or copies into a shell."""

from __future__ import annotations

import shlex


def printable(name: str) -> str:
    """`name` with everything but printable ASCII as escapes: it moves no cursor, hides nothing."""
    return "".join(c if c.isascii() and c.isprintable() else ascii(c)[1:-1] for c in name)


def quoted(name: str) -> str:
    """`name` as one argument of a shell, whatever is in it."""
    return shlex.quote(printable(name))

"""Names that somebody else chose, in a line that a person copies into a shell."""

from __future__ import annotations

import shlex

from privacy.visible import marked


def quoted(name: str) -> str:
    """`name` as one argument of a shell, whatever is in it; what is not plain ASCII is marked."""
    return shlex.quote(marked(name))

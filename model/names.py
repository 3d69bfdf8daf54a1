"""Somebody else's names, in a line that a person copies into a shell."""

from __future__ import annotations

import shlex

from privacy.visible import marked


def quoted(name: str) -> str:
    """`name` as one shell argument, whatever it contains; anything but plain ASCII is marked."""
    return shlex.quote(marked(name))

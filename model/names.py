"""Somebody else's names, in a line that a person copies into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

from privacy.visible import marked, visible


def quoted_path(path: Path) -> str:
    """A path that the reader has typed, as one shell argument."""
    return shlex.quote(visible(str(path)))


def quoted(name: str) -> str:
    """`name` as one shell argument, whatever it contains; anything but plain ASCII is marked."""
    return shlex.quote(marked(name))

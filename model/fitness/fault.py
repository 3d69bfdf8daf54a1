"""What is wrong with a base, and the cure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from privacy.strict_json import read_json


@dataclass(frozen=True, slots=True)
class BaseFault:
    """One reason why a base cannot be used, and what to do about it."""

    what: str
    cure: str


AGAIN = "Get the folder again, whole (for a git clone: git lfs pull)."
READABLE = "Run this as the user to whom it belongs (ls -l names that one)."


def settings_of(path: Path) -> dict[str, object]:
    """A part's settings. Raises ValueError, and OSError if there is no such file."""
    values = read_json(path.read_text("utf-8"))
    if not isinstance(values, dict):
        raise ValueError("not an object")
    return values

"""With which study and policy the running agent works, told to whoever asks at the site.

The agent reads both once, when it starts. This file says which ones, so that `craftsfl site status`
can say that policy.toml was edited since, and `craftsfl site reload` has the agent start again.
"""

# Why: docs/adr/0058-the-hospitals-desk.md

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from privacy.files import read_private, write_private

_LARGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class InForce:
    """Digests (hex) of policy.toml's bytes and of the study, since when (Unix seconds), version."""

    policy: str
    study: str
    since: float
    release: str

    def write(self, path: Path) -> None:
        """Raises `OSError`."""
        write_private(path, json.dumps(asdict(self)).encode("ascii"))


def read_in_force(path: Path) -> InForce | None:
    """What the last agent wrote; None if there is nothing to be read."""
    try:
        found = json.loads(read_private(path, _LARGEST))
        return InForce(**found)
    except (OSError, ValueError, TypeError):
        return None


def policy_digest(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex; "" where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""

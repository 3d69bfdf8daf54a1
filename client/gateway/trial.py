"""Whether a gateway can shut itself in on this machine, tried by a process that does it."""

# Why: docs/adr/0032-one-users-airlock.md

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class AirlockTrial:
    """What came of it: whether it is an airlock, and what the process said that it lacks."""

    held: bool
    text: str


def try_to_shut_in(private: Sequence[Path]) -> AirlockTrial:
    """Let a process of this user shut itself in and try to reach `private` and the rest.

    Nobody has to be believed for this: it is this installation's own code that runs, before
    anything of the coordinator's has come.
    """
    argv = [sys.executable, "-P", "-m", "client.gateway.shut_in", *map(str, private)]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return AirlockTrial(False, "The trial could not be run.")
    text = done.stdout.decode("utf-8", "replace").strip()
    return AirlockTrial(done.returncode == 0, text or "The trial ended without a word.")

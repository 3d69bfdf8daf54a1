"""Whether a process stands still because somebody or something stopped it (SIGSTOP)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ANOTHER_ONE: Final = "lets another one take over"


def stands_still(pid: int) -> bool:
    """Whether this machine's process `pid` was stopped; False where that cannot be seen."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "T"
    except (OSError, IndexError, UnicodeDecodeError):
        return False


def stopped_words(pid: int, killing: str) -> str:
    """What to say of process `pid`, which stands still; `killing`: what SIGKILL would do."""
    return (
        f"process {pid}, stands still (SIGSTOP): kill -CONT {pid} lets it go on, "
        f"kill -KILL {killing}."
    )

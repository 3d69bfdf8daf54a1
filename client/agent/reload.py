"""Starting again with what the files say now: `craftsfl site reload`, when it costs nothing.

A command leaves a file in the state folder; the agent sees it, waits until nothing of an attempt
may leave any more, closes everything as at its end, and reads its files anew in the same process:
whoever watches that, a supervisor or a service manager, notices nothing, and nobody has to be root.
It does not start itself again with execve, after which others could trace it
(`client.trainer.nursery`).
"""

# Why: docs/adr/0058-the-hospitals-desk.md

from __future__ import annotations

from pathlib import Path
from typing import Final

from privacy.errors import DeploymentError
from privacy.files import told_if_unwritable, write_private

START_AGAIN: Final = 75  # how a served agent ends that is to read its files anew


def ask_to_reload(file: Path) -> None:
    """Leave word for the agent whose state folder holds `file`; raises `DeploymentError`."""
    hint = "Run this as the agent's user; check the disk's free space."
    with told_if_unwritable(file, hint, DeploymentError):
        write_private(file, b"")


def is_asked(file: Path) -> bool:
    """Whether there is word to start again."""
    return file.exists()


def taken_up(file: Path) -> None:
    """Whatever was asked for before now is done: this agent has read the files as they are."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        # Else it would start again for ever.
        raise DeploymentError(
            f"{file} cannot be removed: {error.strerror}.", "Check the state folder's owner."
        ) from None

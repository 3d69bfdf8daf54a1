"""The agent's state folder: one agent at a time, readable by its owner alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.patients.lines import REGISTER
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from privacy.files import hint_for, lock


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Where things lie in the state folder."""

    path: Path

    @property
    def ledger(self) -> Path:
        """The record of what was charged; never restore an older copy of it."""
        return self.path / "ledger.sqlite"

    @property
    def ledger_key(self) -> Path:
        """The key that signs the ledger; anyone who has it can write another one."""
        return self.path / "ledger.key"

    @property
    def patients(self) -> Path:
        """The patients' register; its key is next to it."""
        return self.path / REGISTER

    @property
    def survivors(self) -> Path:
        """Who was in the sums of studies without noise."""
        return self.path / "survivors.json"

    @property
    def cohorts(self) -> Path:
        """Who may still be in the sum of each round."""
        return self.path / "cohorts.json"

    @property
    def witness(self) -> Path:
        """The newest checkpoint of every other site's ledger."""
        return self.path / "peers.json"

    @property
    def quarantine(self) -> Path:
        """The list of files that are not used, and why."""
        return self.path / "quarantine.csv"

    @property
    def cache(self) -> Path:
        """Encoded tiles; may be deleted at any time."""
        return self.path / "cache"


@contextmanager
def state_folder(path: Path) -> Iterator[StateFolder]:
    """Make the folder (mode 0700) and hold its lock until the end of the block.

    Raises `DeploymentError` if another agent holds it or it cannot be written.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        held = lock(path / "agent.lock")
    except BlockingIOError:
        raise DeploymentError(
            f"Another agent uses the state folder {path}.",
            "Stop it first: two agents would spend one budget twice.",
            id=ErrorId.AGENT_RUNNING,
        ) from None
    except OSError as error:
        raise DeploymentError(
            f"The state folder {path} cannot be used: {error.strerror}.",
            hint_for(
                error, "Check agent.state in site.toml, the folder's owner and the free space."
            ),
        ) from None
    try:
        yield StateFolder(path)
    finally:
        os.close(held)

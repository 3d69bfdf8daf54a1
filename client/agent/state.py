"""The agent's state folder: one agent at a time, readable by its owner alone."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.patients.lines import REGISTER
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from privacy.files import hint_for, lock, try_lock

TRAINER_PATIENCE_SECONDS = 30.0  # for the last trainer, which died with its agent, to be gone
LOOKS: Final = "looks.json"
_LOOK_SECONDS = 0.05
_log = logging.getLogger("craftsfl.agent")


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
    def log(self) -> Path:
        """What this site has cosigned of the consortium's log."""
        return self.path / "log.json"

    @property
    def quarantine(self) -> Path:
        """The list of files that are not used, and why."""
        return self.path / "quarantine.csv"

    @property
    def known_layout(self) -> Path:
        """What an adapter's numbers meant to the last trainer; may be deleted at any time."""
        return self.path / "layout.json"

    @property
    def proof(self) -> Path:
        """What the device was found to be when it was last tried; may be deleted at any time."""
        return self.path / "isolation.json"

    @property
    def chain(self) -> Path:
        """The adapter of a pooled study as this site has it; may be deleted at any time."""
        return self.path / "chain.bin"

    @property
    def looks(self) -> Path:
        """What `craftsfl site check` saw of each picture; may be deleted at any time."""
        return self.path / LOOKS

    @property
    def wish(self) -> Path:
        """Whether the hospital wants to take part: `craftsfl site pause`, `resume`, `leave`."""
        return self.path / "wish.json"

    @property
    def requests(self) -> Path:
        """What was asked of the agent and what it answered; `craftsfl site log` shows it."""
        return self.path / "requests.log"

    @property
    def in_force(self) -> Path:
        """With which policy and study the running agent works; may be deleted at any time."""
        return self.path / "in-force.json"

    @property
    def reload(self) -> Path:
        """That the agent is to start again once no attempt is open: `craftsfl site reload`."""
        return self.path / "reload"

    @property
    def agent_lock(self) -> Path:
        """Held by the agent for as long as it lives."""
        return self.path / "agent.lock"

    @property
    def trainer_lock(self) -> Path:
        """Held by the trainer, of which there is one."""
        return self.path / "trainer.lock"

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
        held = lock(StateFolder(path).agent_lock)
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


def lock_is_held(path: Path) -> bool:
    """Whether a process of this machine holds the lock file `path`; takes nothing itself."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not try_lock(file, shared=True)
    finally:
        os.close(file)


@contextmanager
def trainer_held(state: StateFolder) -> Iterator[None]:
    """Be the one trainer until the end of the block.

    Waits for the last one: the kernel ends it with its agent, but giving the device's memory back
    takes a moment. Raises `DeploymentError` if it stays.
    """
    end = time.monotonic() + TRAINER_PATIENCE_SECONDS
    waited = False
    while True:
        try:
            held = lock(state.trainer_lock)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                raise DeploymentError(
                    f"Another trainer still holds {state.trainer_lock}.",
                    "Look for it (pgrep cfl-trainer), and end it: kill -9.",
                    id=ErrorId.AGENT_RUNNING,
                ) from None
            if not waited:
                _log.info("Waiting for an earlier trainer to be gone.")
            waited = True
            time.sleep(_LOOK_SECONDS)
        except OSError as error:
            raise DeploymentError(
                f"{state.trainer_lock} cannot be used: {error.strerror}.",
                hint_for(error, "Check the state folder's owner and the free space."),
            ) from None
    try:
        yield
    finally:
        os.close(held)

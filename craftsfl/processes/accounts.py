"""Users of this machine, and becoming one. Imports nothing heavy: root runs it."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from privacy.errors import ConfigError

ROOT = 0


@dataclass(frozen=True)
class SystemAccount:
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    home: str

    @property
    def variables(self) -> dict[str, str]:
        """What the environment of a process of this user says of it."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def become(self) -> None:
        """Turn this process, which is root's, into one of this user, for good."""
        os.initgroups(self.name, self.gid)
        os.setgid(self.gid)
        os.setuid(self.uid)
        os.environ.update(self.variables)
        for folder in ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):  # they were root's
            os.environ.pop(folder, None)


def find_account(name: str) -> SystemAccount:
    """The user `name`; raises `ConfigError` where this machine has none, and for root."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(
            f"This machine has no user {name}.", f"Make one: useradd --system {name}"
        ) from None
    if found.pw_uid == ROOT:
        raise ConfigError(f"{name} is root.", "Name a user who owns nothing else.")
    return SystemAccount(name, found.pw_uid, found.pw_gid, found.pw_dir)


def become(user: str | None) -> None:
    """Turn this process into one of `user`, where it is root's and a user is named."""
    if user is not None and os.geteuid() == ROOT:
        find_account(user).become()

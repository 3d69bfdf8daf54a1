"""The users of this machine, and how to become one of them. Root runs this: no heavy imports."""

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
        """The environment variables that name this user."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}

    def become(self) -> None:
        """Give up root: from now on this process runs as this user. Irreversible."""
        os.initgroups(self.name, self.gid)
        os.setgid(self.gid)
        os.setuid(self.uid)
        os.environ.update(self.variables)
        for folder in ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):  # these were root's
            os.environ.pop(folder, None)


def find_account(name: str) -> SystemAccount:
    """The user called `name`; raises `ConfigError` if there is none, or if it is root."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(
            f"This machine has no user {name}.", f"Create one: useradd --system {name}"
        ) from None
    if found.pw_uid == ROOT:
        raise ConfigError(f"{name} is root.", "Choose a user who owns nothing else.")
    return SystemAccount(name, found.pw_uid, found.pw_gid, found.pw_dir)


def become(user: str | None) -> None:
    """Run as `user` from now on, if this process is root's and a user is named."""
    if user is not None and os.geteuid() == ROOT:
        find_account(user).become()

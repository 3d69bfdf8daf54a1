"""Paths as people write them: `~` is a folder only where this user, or the one named, has one."""

from __future__ import annotations

from pathlib import Path

from privacy.errors import ConfigError
from privacy.visible import marked


def from_home(path: str | Path) -> Path:
    """`path`, with a leading `~` or `~NAME` replaced by that user's folder.

    Raises `ConfigError` where no such folder is known, as in a container whose user has a number
    and no name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{marked(str(path))} begins with ~, and no home folder of that user is known here.",
            "Write the whole path; or set HOME.",
        ) from None


def own_home() -> Path:
    """This user's home folder; raises `ConfigError` where it has none."""
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigError(
            "This user has no home folder, where installed bases are looked for.",
            "Set HOME, or CRAFTSFL_CACHE to a folder that belongs to this user.",
        ) from None

"""The file that a command leaves under the name that was given with -o: never over another one."""

from __future__ import annotations

import os
from pathlib import Path

from privacy.errors import ConfigError
from privacy.files import write_private_once, write_public_once


def elsewhere(path: Path, option: str = "-o") -> str:
    """What to do where `path` cannot be written, which `option` has named."""
    if not path.parent.exists():
        return f"Make the folder {path.parent} first."
    return (
        f"Check the folder's owner and the disk's free space, or name another place with {option}."
    )


def check_is_new(path: Path) -> None:
    """Raise `ConfigError` where `write_new_file` could not write, before anything slow begins."""
    if os.path.lexists(path):
        raise _taken(path)
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is not a folder.", "Make it first.")


def _taken(path: Path) -> ConfigError:
    return ConfigError(f"{path} exists already: nothing was written.", "Name a new file with -o.")


def write_new_file(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write `data`, whole or not at all; `private`: readable by its owner alone.

    Raises `ConfigError` where there is such a file, or none can be written.
    """
    write = write_private_once if private else write_public_once
    try:
        write(path, data)
    except FileExistsError:
        raise _taken(path) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", elsewhere(path)) from None

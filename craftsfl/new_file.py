"""The file that a command leaves under the name that was given with -o: never over another one."""

from __future__ import annotations

from pathlib import Path

from privacy.errors import ConfigError
from privacy.files import write_private_once, write_public_once


def write_new_file(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write `data`, whole or not at all; `private`: readable by its owner alone.

    Raises `ConfigError` where there is such a file, or none can be written.
    """
    write = write_private_once if private else write_public_once
    try:
        write(path, data)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists already: nothing was written.", "Name a new file with -o."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", "Check it.") from None

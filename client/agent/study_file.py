"""A JSON file of the state folder that maps studies to what a site remembers of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from privacy.errors import ConfigError, DeploymentError
from privacy.files import RefusedFile, read_private, told_if_unwritable, write_private

_LARGEST: Final = 64 << 20  # bytes
_T = TypeVar("_T")


def read_study_file(
    file: Path, parse: Callable[[dict[str, Any]], dict[str, _T]], what: str
) -> dict[str, _T]:
    """What `parse` makes of the file's contents; nothing where there is no file.

    Raises `ConfigError` for one that it cannot parse; `what` says what it lists.
    """
    try:
        return parse(json.loads(read_private(file, _LARGEST)))
    except FileNotFoundError:
        return {}
    except RefusedFile as error:
        raise ConfigError(f"{file} cannot be used: {error.strerror}.", error.hint) from None
    except (OSError, ValueError, TypeError, AttributeError):
        raise ConfigError(
            f"{file} is damaged: it lists {what}.",
            "Restore the newest backup of the state folder.",
        ) from None


def write_study_file(file: Path, studies: dict[str, Any]) -> None:
    """Replace the file; on disk when this returns. Raises `DeploymentError`, unchanged."""
    with told_if_unwritable(file, "Check the disk and its free space.", DeploymentError):
        write_private(file, json.dumps(studies).encode())

"""The survivor sets that a site has signed without noise, kept in its state folder.

Without noise, two sums over almost the same sites reveal those in which they differ; a set that is
too close to an earlier one is refused (`privacy.secagg.offer`). A set is on disk before the
signature leaves, so that a restart does not forget it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from privacy.errors import ConfigError, DeploymentError
from privacy.files import RefusedFile, read_private, write_private

_LARGEST = 64 << 20  # bytes


class SignedSets:
    """The sets of one study (its digest), in `file` where there is one. Not thread-safe.

    Raises `ConfigError` for a file that does not hold them.
    """

    def __init__(self, file: Path | None = None, study: bytes = b"") -> None:
        self._file = file
        self._study = study.hex()
        self._sets = {} if file is None else _read(file)

    def earlier(self) -> tuple[frozenset[int], ...]:
        """All sets that were added, including before a restart."""
        return tuple(frozenset(sites) for sites in self._sets.get(self._study, []))

    def add(self, sites: Iterable[int]) -> None:
        """Remember a set; on disk when this returns. Raises `DeploymentError`, unchanged."""
        own, made = self._sets.get(self._study, []), sorted(sites)
        if made in own:
            return
        after = {**self._sets, self._study: [*own, made]}
        if self._file is not None:
            _write(self._file, json.dumps(after).encode())
        self._sets = after


def _read(file: Path) -> dict[str, list[list[int]]]:
    try:
        held = json.loads(read_private(file, _LARGEST))
        return {str(study): [sorted(map(int, one)) for one in sets] for study, sets in held.items()}
    except FileNotFoundError:
        return {}
    except RefusedFile as error:
        raise ConfigError(f"{file} cannot be used: {error.strerror}.", error.hint) from None
    except (OSError, ValueError, TypeError, AttributeError):
        raise ConfigError(
            f"{file} is damaged: it lists who was in the sums of studies without noise.",
            "Restore the newest backup of the state folder.",
        ) from None


def _write(file: Path, data: bytes) -> None:
    try:
        write_private(file, data)
    except OSError as error:
        raise DeploymentError(
            f"{file} cannot be written: {error.strerror}.", "Check the disk and its free space."
        ) from None

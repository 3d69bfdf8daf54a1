"""The survivor sets that a site has signed without noise, kept in its state folder.

Without noise, two sums over almost the same sites reveal those in which they differ; a set that is
too close to an earlier one is refused (`privacy.secagg.offer`). A set is on disk before the
signature leaves, so that a restart does not forget it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from client.agent.study_file import read_study_file, write_study_file

_WHAT: Final = "who was in the sums of studies without noise"


class SignedSets:
    """The sets of one study (its digest), in `file` where there is one. Not thread-safe.

    Raises `ConfigError` for a file that does not hold them.
    """

    def __init__(self, file: Path | None = None, study: bytes = b"") -> None:
        self._file = file
        self._study = study.hex()
        self._sets = {} if file is None else read_study_file(file, _parse, _WHAT)

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
            write_study_file(self._file, after)
        self._sets = after


def _parse(held: dict[str, Any]) -> dict[str, list[list[int]]]:
    return {str(study): [sorted(map(int, one)) for one in sets] for study, sets in held.items()}

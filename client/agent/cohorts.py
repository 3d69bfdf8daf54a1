"""Who may still be in a round's sum: journalled by the site, so that a cohort can only shrink.

Two sums over almost the same sites reveal, in expectation, those in which they differ: with one
adapter and the cohorts {1,2,3}, {1,2,4}, {1,3,4} a coordinator would solve for single sites. So the
cohorts in which a site takes part in one round of a study form a chain, each within the previous
one, over all attempts and runs: the first offer that it accepts sets the round's sites, and the
survivors that it signs narrow them. Both are on disk before the answer leaves, so that a restart
forgets nothing. Ids of the roster are never reused, so their meaning is permanent.
"""

# Why: docs/adr/0020-members-and-cohorts.md

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from privacy.errors import ConfigError, DeploymentError
from privacy.files import RefusedFile, read_private, write_private

_LARGEST = 64 << 20  # bytes


class Cohorts:
    """The rounds of one study (its digest), in `file` where there is one. Not thread-safe.

    Raises `ConfigError` for a file that does not hold them.
    """

    def __init__(self, file: Path | None = None, study: bytes = b"") -> None:
        self._file = file
        self._study = study.hex()
        self._studies = {} if file is None else _read(file)

    def strangers(self, round: int, cohort: Iterable[int]) -> frozenset[int]:
        """The sites of `cohort` that may not be in a sum of `round` now; none before its first."""
        allowed = self._studies.get(self._study, {}).get(round)
        return frozenset() if allowed is None else frozenset(cohort) - set(allowed)

    def narrow(self, round: int, sites: Iterable[int]) -> None:
        """From now on only `sites` may be in a sum of `round`; on disk when this returns.

        Sites that are out stay out. Raises `DeploymentError`, unchanged.
        """
        rounds = self._studies.get(self._study, {})
        before = rounds.get(round)
        after = sorted(set(sites) if before is None else set(sites) & set(before))
        if after == before:
            return
        studies = {**self._studies, self._study: {**rounds, round: after}}
        if self._file is not None:
            _write(self._file, studies)
        self._studies = studies


def _read(file: Path) -> dict[str, dict[int, list[int]]]:
    try:
        held = json.loads(read_private(file, _LARGEST))
        return {
            str(study): {int(number): sorted(map(int, sites)) for number, sites in rounds.items()}
            for study, rounds in held.items()
        }
    except FileNotFoundError:
        return {}
    except RefusedFile as error:
        raise ConfigError(f"{file} cannot be used: {error.strerror}.", error.hint) from None
    except (OSError, ValueError, TypeError, AttributeError):
        raise ConfigError(
            f"{file} is damaged: it lists who may be in the sum of each round.",
            "Restore the newest backup of the state folder.",
        ) from None


def _write(file: Path, studies: dict[str, dict[int, list[int]]]) -> None:
    try:
        write_private(file, json.dumps(studies).encode())
    except OSError as error:
        raise DeploymentError(
            f"{file} cannot be written: {error.strerror}.", "Check the disk and its free space."
        ) from None

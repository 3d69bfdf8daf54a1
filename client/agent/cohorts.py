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

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from client.agent.study_file import read_study_file, write_study_file

_WHAT: Final = "who may be in the sum of each round"


class Cohorts:
    """The rounds of one study (its digest), in `file` where there is one. Not thread-safe.

    Raises `ConfigError` for a file that does not hold them.
    """

    def __init__(self, file: Path | None = None, study: bytes = b"") -> None:
        self._file = file
        self._study = study.hex()
        self._studies = {} if file is None else read_study_file(file, _parse, _WHAT)

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
            write_study_file(self._file, studies)
        self._studies = studies


def _parse(held: dict[str, Any]) -> dict[str, dict[int, list[int]]]:
    return {
        str(study): {int(number): sorted(map(int, sites)) for number, sites in rounds.items()}
        for study, rounds in held.items()
    }

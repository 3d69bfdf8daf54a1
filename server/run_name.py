"""A run's name, which outlives every process and every Flower run that carries it."""

from __future__ import annotations

from dataclasses import dataclass

from privacy.error_ids import ErrorId
from privacy.errors import ConfigError

LARGEST_NUMBER = 2**32 - 1  # older ledgers hold Flower's ids, which are practically always larger
_KEY_LETTERS = 20  # of the column that once held Flower's ids


@dataclass(frozen=True, slots=True)
class RunName:
    """Run `number` (from 1) of the study with this 32-byte digest.

    Raises `ConfigError` for a number that no message could carry.
    """

    study_digest: bytes
    number: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= LARGEST_NUMBER:
            raise ConfigError(
                f"{self.number} is not the number of a run.",
                f"Runs of a study are numbered from 1 to {LARGEST_NUMBER}.",
                id=ErrorId.NO_RUN,
            )

    @property
    def key(self) -> str:
        """The key of its rows. Two names that share one cannot be stored in one database."""
        return f"{self.number}-{self.study_digest.hex()}"[:_KEY_LETTERS]

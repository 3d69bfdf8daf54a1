"""What the coordinator says of a run: attempts, refusals, what was released. Its word, unsigned.

It is compared with what is signed wherever that says something of the same.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Self

from privacy.audit.statement import LATEST_SECOND, canonical
from privacy.errors import AuditError
from privacy.strict_json import read_json

VERSION: Final = 1
MOST_ATTEMPTS: Final = 200_000
MOST_BUNDLED_REFUSALS: Final = 100_000
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LARGEST: Final = 64 << 20
FINISHED: Final = "finished"
RUN_STATES: Final = ("waiting", "running", "paused", FINISHED, "failed", "stopped")
_ATTEMPT_STATES: Final = ("open", FINISHED, "failed")


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """An attempt at a round, or at a step; `sites` are those whose updates are in its sum."""

    round: int
    attempt: int
    state: str
    reason: str
    started: float  # Unix seconds
    finished: float | None
    sites: tuple[str, ...]

    @property
    def opened(self) -> bool:
        """Whether its sum was opened."""
        return self.state == FINISHED


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run. `epsilon`: what its adapter's own file claims for the whole study, infinite without
    noise; `released`: SHA-256 of that file in hex, "" where there is none.
    """

    run: int
    state: str
    epsilon: float
    released: str
    attempts: tuple[AttemptRecord, ...]
    refusals: tuple[tuple[str, str], ...]  # who, and why

    def encode(self) -> bytes:
        """The file."""
        values = {
            "version": VERSION,
            "run": self.run,
            "state": self.state,
            "epsilon": self.epsilon if math.isfinite(self.epsilon) else None,
            "released": self.released,
            "attempts": [
                [a.round, a.attempt, a.state, a.reason, a.started, a.finished, list(a.sites)]
                for a in self.attempts
            ],
            "refusals": [list(one) for one in self.refusals],
        }
        return canonical(values).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse; `AuditError` for anything else, and for more than an auditor reads."""
        if len(data) > _LARGEST:
            raise AuditError(f"A run's record has more than {_LARGEST} bytes.")
        try:
            held = read_json(data.decode("ascii"))
            if not isinstance(held, dict) or held["version"] != VERSION:
                raise ValueError
            _check_lengths(held)
            found = cls(
                _from_one(held["run"]),
                _one_of(RUN_STATES, held["state"]),
                math.inf if held["epsilon"] is None else _number(held["epsilon"]),
                _digest(held["released"]),
                tuple(map(_attempt, held["attempts"])),
                tuple((_text(site), _text(why)) for site, why in held["refusals"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise AuditError("A run's record is not one.") from error
        if found.encode() != data:
            raise AuditError("A run's record is not in its canonical form.")
        return found


def _check_lengths(held: dict[str, object]) -> None:
    for name, most in (("attempts", MOST_ATTEMPTS), ("refusals", MOST_BUNDLED_REFUSALS)):
        found = held[name]
        if not isinstance(found, list):
            raise TypeError
        if len(found) > most:
            raise AuditError(f"A run's record has {len(found)} {name}; at most {most} are read.")


def _attempt(row: object) -> AttemptRecord:
    if not isinstance(row, list):
        raise TypeError
    round, attempt, state, reason, started, finished, sites = row
    return AttemptRecord(
        _whole(round),
        _whole(attempt),
        _one_of(_ATTEMPT_STATES, state),
        _text(reason),
        _moment(started),
        None if finished is None else _moment(finished),
        tuple(map(_text, sites)),
    )


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _from_one(value: object) -> int:
    number = _whole(value)
    if number < 1:
        raise ValueError
    return number


def _one_of(known: tuple[str, ...], value: object) -> str:
    text = _text(value)
    if text not in known:
        raise ValueError
    return text


def _number(value: object) -> float:
    if not isinstance(value, float) or value < 0:
        raise TypeError
    return value


def _moment(value: object) -> float:
    seconds = _number(value)
    if seconds >= LATEST_SECOND:
        raise ValueError
    return seconds


def _digest(value: object) -> str:
    text = _text(value)
    if text and not _SHA256.fullmatch(text):
        raise ValueError
    return text


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value

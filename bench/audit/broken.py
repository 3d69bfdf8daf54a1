"""Row "tamper": valid bundles broken in every way that is known, and whether that is found.

`tried` bundles of `kinds` kinds; `found`: were not passed; `named`: were refused under a name that
the kind of damage has, at the site where it was done. `least`: how often the rarest kind was tried.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.audit.made import MadeMechanism, MadeStudy, StudySize, made_study
from bench.output import BenchRow
from craftsfl.audit.tampering import KINDS, DishonestKeys, NotHere, tamper
from craftsfl.audit.verdict import verify_bundle
from privacy.audit.bundle import make_bundle

_EACH: Final = 60  # of a pooled study
_EACH_LOCAL: Final = 6  # of a study of updates, which has fewer things to break
_MECHANISMS: Final[tuple[MadeMechanism, ...]] = ("pooled", "local")


@dataclass(frozen=True, slots=True)
class Attempted:
    """One broken bundle: whether it was refused, and under a right name at the right site."""

    kind: str
    found: bool
    named: bool


class Breaker:
    """A valid bundle of a mechanism, and every way to break it."""

    def __init__(self, mechanism: MadeMechanism) -> None:
        made = _made(mechanism)
        self._mechanism = mechanism
        self.data = make_bundle(made.parts)
        self._keys = DishonestKeys(made.ledger_keys, made.identities, made.coordinator)

    def tried(self, kind: str, number: int) -> Attempted | None:
        """Break and judge it; None where it cannot be broken in this way."""
        try:
            broken = tamper(self.data, kind, f"{self._mechanism} {kind} {number}", self._keys)
        except NotHere:
            return None
        verdict = verify_bundle(broken.data)
        right = [one.site for one in verdict.failures if one.fault in broken.expected]
        named = bool(right) and (not broken.site or broken.site in right)
        return Attempted(kind, not verdict.passed, named)


def measure(quick: bool) -> Iterator[BenchRow]:
    """One row of all mechanisms' bundles, and what was missed."""
    done: list[Attempted] = []
    for mechanism in _MECHANISMS:
        breaker = Breaker(mechanism)
        each = 1 if quick else _EACH if mechanism == "pooled" else _EACH_LOCAL
        for kind in KINDS:
            tries = (breaker.tried(kind, number) for number in range(each))
            done += [one for one in tries if one is not None]
    yield tamper_row(done)


def tamper_row(done: Sequence[Attempted]) -> BenchRow:
    """What was tried, as a row."""
    counts = Counter(one.kind for one in done)
    return {
        "what": "tamper",
        "tried": len(done),
        "found": sum(one.found for one in done),
        "named": sum(one.named for one in done),
        "kinds": len(counts),
        "least": min(counts.values()),
    }


def _made(mechanism: MadeMechanism) -> MadeStudy:
    with tempfile.TemporaryDirectory() as folder:
        return made_study(Path(folder), mechanism, StudySize(promoted=True))

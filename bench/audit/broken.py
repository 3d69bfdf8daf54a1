"""Row "tamper": valid bundles broken in every way that is known, and whether that is found.

`tried` bundles of `kinds` kinds; `found`: were not passed; `named`: were refused under a name that
the kind of damage has, at the site where it was done. `least`: how often the rarest kind was tried.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.audit.made import MadeMechanism, MadeStudy, StudySize, made_study
from bench.output import BenchRow
from craftsfl.audit.tampering import KINDS, DishonestKeys, NotHere, tamper
from craftsfl.audit.verdict import verify_bundle
from privacy.audit.bundle import make_bundle

_EACH: Final = 54
_MECHANISMS: Final[tuple[MadeMechanism, ...]] = ("pooled", "local")


def measure(quick: bool) -> Iterator[BenchRow]:
    """One row for each mechanism's bundles, and what was missed."""
    counts: Counter[str] = Counter()
    tried, found, named = 0, 0, 0
    for mechanism in _MECHANISMS:
        made = _made(mechanism)
        data = make_bundle(made.parts)
        keys = DishonestKeys(made.ledger_keys, made.identities, made.coordinator)
        for kind in KINDS:
            for number in range(1 if quick else _EACH):
                try:
                    broken = tamper(data, kind, f"{mechanism} {kind} {number}", keys)
                except NotHere:
                    break
                verdict = verify_bundle(broken.data)
                right = [one.site for one in verdict.failures if one.fault in broken.expected]
                counts[kind] += 1
                tried += 1
                found += not verdict.passed
                named += bool(right) and (not broken.site or broken.site in right)
    yield {
        "what": "tamper",
        "tried": tried,
        "found": found,
        "named": named,
        "kinds": len(counts),
        "least": min(counts.values()),
    }


def _made(mechanism: MadeMechanism) -> MadeStudy:
    with tempfile.TemporaryDirectory() as folder:
        return made_study(Path(folder), mechanism, StudySize(promoted=True))

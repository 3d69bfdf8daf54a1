"""Row "false alarms": valid bundles of both mechanisms, and how many of them are not passed.

Each is of a study of its own: other keys, sites, rounds, optimisers, with vectors and without.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.audit.made import MadeMechanism, StudySize, made_study
from bench.output import BenchRow
from craftsfl.audit.verdict import verify_bundle
from privacy.audit.bundle import make_bundle

_BUNDLES: Final = 200


def measure(quick: bool) -> Iterator[BenchRow]:
    """One row."""
    wanted = 4 if quick else _BUNDLES
    bundles, alarms = 0, 0
    for number in range(wanted):
        mechanism: MadeMechanism = "local" if number % 2 else "pooled"
        size = StudySize(
            sites=3 + number // 2 % 3,
            rounds=1 + number // 6 % 3,
            parameters=(4, 12, 70)[number // 2 % 3],
            noise=3.0 + number % 7,
            strategy="momentum" if number % 4 else "adam",
        )
        with tempfile.TemporaryDirectory() as folder:
            made = made_study(Path(folder), mechanism, size, str(number))
        data = make_bundle(made.parts, with_vectors=number % 5 != 0)
        bundles += 1
        alarms += not verify_bundle(data).passed
    yield {"what": "false alarms", "bundles": bundles, "alarms": alarms}

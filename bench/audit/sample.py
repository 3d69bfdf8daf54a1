"""Makes the sample that `craftsfl audit verify sample` checks: craftsfl/audit/sample.zip.

    python -m bench.audit.sample

A study of three simulated hospitals, run by the real agents, ledgers, coordinator and log. Their
patients are points that pull at an adapter of 64 numbers: there is no tissue in it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from bench.audit.made import StudySize, made_study
from privacy.audit.bundle import make_bundle

_SAMPLE: Final = Path(__file__).resolve().parents[2] / "craftsfl" / "audit" / "sample.zip"
_SIZE: Final = StudySize(
    sites=3,
    rounds=8,
    parameters=64,
    spare=2,
    noise=4.0,
    names=("north", "harbour", "hillside"),
    budget=8.0,
)


def main() -> None:
    """Write it."""
    with tempfile.TemporaryDirectory() as folder:
        made = made_study(Path(folder), "pooled", _SIZE, "sample")
    _SAMPLE.write_bytes(make_bundle(made.parts))


if __name__ == "__main__":
    main()

"""A table of made-up rehearsals that lie on a curve, for tests of the arithmetic around it."""

from __future__ import annotations

from craftsfl.planning.rehearsed import RehearsalTable, RehearsedLayout, RehearsedRun

HALF = 3.0
SMALL = RehearsedLayout(
    name="small",
    targets=("a.to_v",),
    rank=1,
    parameters=192,
    norms=(0.0001, 0.0006, 0.002, 0.004, 0.05),
    coherence=((0.0002, 0.2), (0.02, 0.05)),
    reference=0.2,
    reference_rate=0.1,
)
LARGE = SMALL.model_copy(
    update={"name": "large", "targets": ("to_v",), "parameters": 1536, "reference": 0.4}
)


def run(snr: float, off: float = 0.0, layout: str = "small", scale: float = 1.0) -> RehearsedRun:
    found = snr**2 / (snr**2 + HALF**2) + off
    return RehearsedRun(
        layout=layout,
        patients=480,
        steps=40,
        snr=snr,
        rate=0.02,
        seed=100,
        recovered=found,
        low=found - 0.1,
        high=found + 0.1,
        best_scale=scale,
    )


RUNS = tuple(
    run(snr, off, layout)
    for layout in ("small", "large")
    for snr, off in ((1.0, 0.05), (2.0, -0.05), (4.0, 0.05), (8.0, -0.05))
)
TABLE = RehearsalTable(
    command="made up",
    base="sha256:" + "0" * 64,
    gradient_seconds=0.01,
    probe_seconds=0.1,
    layouts=(SMALL, LARGE),
    runs=RUNS,
)

"""How far one patient moves what leaves, in units of the clipping norm C: the charge covers 1.

Rows: `engine`, `loss`, `device`, `precision`, `scale` of the adapter's normal factors, `protected`,
`leave_one_outs`, `clipped` (share of patients at the bound) and `ratio`, the largest that was seen.

The adversary is the coordinator, who chooses the adapter: large factors, above all of queries and
keys, amplify the last bits, in which a row differs when it is computed together with other rows.
Each leave-one-out is two whole steps of the trainer on the shipped base with the same secrets, one
of them without that patient. The control (`protected` false) packs without blanks, so a batch has
one row fewer without the patient; it has to exceed 2, or this bench could not detect a fault.
Exits with 1 if a protected ratio is above 1 + 1e-6, too few patients were clipped, or the control
stays small.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from bench.engines import ENGINE_CLASSES
from bench.output import BenchRow, parser, print_rows
from bench.sensitivity_world import LOSS_TERMS, World, unpadded
from client.training.proof import large_vector
from model.layout import Layout
from privacy.dpsgd.assignment import packed

TOLERANCE: Final = 1 + 1e-6
LEAST_CLIPPED: Final = 0.9
LEAST_CONTROL: Final = 2.0
SHARPENED: Final = "1, q and k x 24"
SCALES: Final = ("0.3", "3", "15", SHARPENED)


def adapter(layout: Layout, scale: str, seed: int) -> NDArray[np.float32]:
    """What a hostile coordinator sends: [P]."""
    if scale == SHARPENED:
        return large_vector(layout, seed=seed)
    random = np.random.default_rng(seed)
    return (float(scale) * random.standard_normal(layout.parameters)).astype(np.float32)


@dataclass(frozen=True)
class Moved:
    """How far each patient moved the sum, in units of C: float64 [leave-one-outs]."""

    values: NDArray[np.float64]

    @property
    def clipped(self) -> float:
        """The share of patients who were at the bound."""
        return float((self.values >= 1 - 1e-6).mean())


def leave_one_out(world: World, scale: str, seeds: int, patients: int | None = None) -> Moved:
    """Leave out every patient, or the first `patients`, for each adapter and draw."""
    moved = []
    for seed in range(seeds):
        vector = adapter(world.layout, scale, seed)
        everyone = world.clipped_sum(vector, seed)
        for patient in range(patients or world.patients):
            rest = world.clipped_sum(vector, seed, without=patient)
            moved.append(float((everyone - rest).norm()) / world.clipping_norm)
    return Moved(np.array(moved))


def measure(options: argparse.Namespace) -> Iterator[BenchRow]:
    """A row for each engine, loss and scale; the control comes first."""
    for protected in (False, True):
        for engine in options.engine:
            for loss in options.loss:
                world = World(
                    engine,
                    loss,
                    options.device,
                    assign=packed if protected else unpadded,
                    precision=options.precision,
                )
                for scale in options.scale if protected else [SHARPENED]:
                    moved = leave_one_out(world, scale, options.seeds if protected else 1)
                    yield {
                        "engine": engine,
                        "loss": loss,
                        "device": options.device,
                        "precision": options.precision,
                        "scale": scale,
                        "protected": protected,
                        "leave_one_outs": len(moved.values),
                        "clipped": moved.clipped,
                        "ratio": float(moved.values.max()),
                    }


def faults(rows: Sequence[BenchRow]) -> list[str]:
    """What in the rows contradicts the claim, or makes them worthless as evidence."""
    found = []
    for row in rows:
        if row["protected"] and float(row["ratio"] or 0) > TOLERANCE:
            found.append(f"one patient moved the sum by {row['ratio']} C: {dict(row)}")
        if row["protected"] and float(row["clipped"] or 0) < LEAST_CLIPPED:
            found.append(f"too few patients were clipped for this to say anything: {dict(row)}")
    control = max((float(row["ratio"] or 0) for row in rows if not row["protected"]), default=0.0)
    if control <= LEAST_CONTROL:
        found.append(f"the control moved by {control:.3g} C only: this bench would see no fault")
    return found


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser("sensitivity", __doc__ or "")
    made.add_argument(
        "--engine", nargs="+", choices=list(ENGINE_CLASSES), default=list(ENGINE_CLASSES)
    )
    made.add_argument("--loss", nargs="+", choices=list(LOSS_TERMS), default=list(LOSS_TERMS))
    made.add_argument("--scale", nargs="+", choices=list(SCALES), default=list(SCALES))
    made.add_argument("--seeds", type=int, default=4, help="adapters and draws for each row")
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    made.add_argument(
        "--precision",
        choices=["float32", "bfloat16"],
        default="float32",
        help="of the frozen layers; bfloat16 without stage two's effects, as at a site",
    )
    made.add_argument("--threads", type=int, default=1, help="of the processor")
    made.add_argument("--quick", action="store_true", help="one engine, loss and scale")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m bench.sensitivity [--json] [--quick] ...`."""
    options = arguments().parse_args(argv)
    if options.quick:
        options.engine, options.loss = options.engine[:1], options.loss[:1]
        options.scale, options.seeds = options.scale[-1:], 1
    torch.set_num_threads(options.threads)
    rows = list(measure(options))
    print_rows("sensitivity", rows, as_json=options.json)
    found = faults(rows)
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()

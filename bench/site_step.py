"""What a step of the demo's hospital costs its processor, and what makes it cheaper.

A row for each way to compute it: `rows` that go through at once, whether freed memory is kept
(`heap`), the frozen layers' `precision`; and `milliseconds` of one core a patient (the least of
`--repeats` steps of all patients, each way in a process of its own), the `ratio` to the first row,
and `worst_cosine` of a patient's gradient with the one in the first row, at an adapter as large as
a trained one. Tiles and captions are random numbers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray

from bench.output import BenchRow, parser, print_rows
from client.training import EncodedTiles, LocalTrainer
from client.training.precision import Precision
from client.training.proof import large_vector
from craftsfl.demo.figures import referred_study
from craftsfl.simulation.trainers import KnownNoise
from model.base import load_base
from model.cache import shipped_base
from model.digest import folder_digest
from model.heap import keep_freed_memory
from privacy.dpsgd.engine import PatientGradients, PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.errors import ModelError

_PATIENTS: Final = 144  # with tiles, of whom gradients are compared
_TRAINED: Final = 0.05  # of `large_vector`: about what the demo's numbers are after forty steps


@dataclass(frozen=True)
class StepWay:
    """One way to compute a step."""

    rows: int
    heap: bool
    precision: Precision


STEP_WAYS: Final[Sequence[StepWay]] = (
    StepWay(16, heap=False, precision="float32"),  # as it was
    StepWay(16, heap=True, precision="float32"),
    StepWay(48, heap=True, precision="float32"),
    StepWay(48, heap=True, precision="bfloat16"),  # as it is, where the processor can
)


class _Seen(LoraEngine):
    """The engine; keeps the directions of everybody's first gradient, [patients, P] in parts."""

    found: ClassVar[list[NDArray[np.float32]]] = []
    patients = 0

    def gradients(self, batch: PhysicalBatch) -> PatientGradients:
        gradients = super().gradients(batch)
        if sum(map(len, _Seen.found)) < _Seen.patients:
            there = gradients.values[gradients.usable]
            _Seen.found.append(torch.nn.functional.normalize(there, dim=1).numpy())
        return gradients


def measure_way(way: StepWay, patients: int, repeats: int) -> tuple[float, NDArray[np.float32]]:
    """Processor seconds of a step for each place, and the directions of `patients`' gradients.

    Every declared patient has a place, whoever is there; the directions are [patients, P].
    """
    torch.set_num_threads(1)
    if way.heap:
        keep_freed_memory()
    folder = shipped_base()
    if folder is None:
        raise ModelError("The tiny base is not here.", "Run from a full checkout.")
    study = referred_study(folder_digest(folder))
    name = study.sites[0].name
    _Seen.patients = patients
    trainer = LocalTrainer(
        study,
        name,
        load_base(folder),
        _tiles(patients),
        noise=KnownNoise("bench.site_step"),  # the same draws every way
        physical_rows=way.rows,
        engine=_Seen,
        precision=way.precision,
    )
    adapter = (_TRAINED * large_vector(trainer.layout, sharpened=1.0)).astype(np.float32)
    seconds = []
    for step in range(1 + repeats):
        began = time.process_time()
        trainer.clipped_sum(adapter, step, progress=lambda *_: None, should_stop=lambda: False)
        seconds.append(time.process_time() - began)
    return min(seconds[1:]) / study.sites[0].declared_patients, np.concatenate(_Seen.found)


def _tiles(patients: int) -> EncodedTiles:
    random = torch.Generator().manual_seed(0)
    return EncodedTiles(
        latents=torch.randn(patients, 4, 16, 16, generator=random),
        text=torch.randn(3, 48, 96, generator=random),
        caption_of=torch.arange(patients) % 3,
        patient_of=torch.arange(patients),
    )


def _apart(way: StepWay, patients: int, repeats: int) -> tuple[float, NDArray[np.float32]]:
    """`measure_way` in a process of its own: what is set for freed memory stays set."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure_way, way, patients, repeats).result()


def measure_ways(ways: Sequence[StepWay], patients: int, repeats: int) -> list[BenchRow]:
    """A row for each of `ways`."""
    # One after the other: side by side they would share caches and memory.
    made = [_apart(way, patients, repeats) for way in ways]
    first, wanted = made[0]
    return [
        {
            "rows": way.rows,
            "heap": way.heap,
            "precision": way.precision,
            "milliseconds": 1000 * seconds,
            "ratio": seconds / first,
            "worst_cosine": float((found * wanted).sum(axis=1).min()),
        }
        for way, (seconds, found) in zip(ways, made, strict=True)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m bench.site_step [--json] [--quick]`."""
    made = parser("site_step", __doc__ or "")
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--quick", action="store_true", help="a few patients, two ways: a smoke test")
    options = made.parse_args(argv)
    ways, patients = STEP_WAYS, _PATIENTS
    if options.quick:
        ways, patients, options.repeats = (STEP_WAYS[0], STEP_WAYS[-1]), 4, 1
    rows = measure_ways(ways, patients, options.repeats)
    print_rows("site_step", rows, as_json=options.json)


if __name__ == "__main__":
    main()

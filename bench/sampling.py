"""How fast pictures are drawn, guidance and decoding included.

Rows: `batch`, `workers` (threads that draw batches in parallel), `threads` (of torch within
an operation, in each worker), `adapter` (whether a LoRA adapter is on the UNet), `layout` of the
weights in memory, `images_per_second` (the median over repetitions), `cpu_seconds` an image, and
`most_grey_levels` by which a picture differs from the first row's of the same seed: rounding.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from bench.output import BenchRow, parser, print_rows
from model.adapters import attach, detach, read_vector, write_vector
from model.base import Pipeline, load_base
from model.cache import SHIPPED_BASE, locate_base
from model.devices import pick_device
from model.sampling import SamplerSettings, sample_each
from privacy.study.manifest import Adapter

PROMPT = "colon adenocarcinoma, colon: round glands with open lumens."
ADAPTER = Adapter(targets=("to_q", "to_k", "to_v", "to_out.0"), rank=4, alpha=4.0)
SPREAD = 0.02  # of the noise in the adapter: visible, but nothing blows up


@dataclass(frozen=True)
class SamplingCell:
    """One way to draw."""

    settings: SamplerSettings
    threads: int
    images: int
    adapter: bool = False
    channels_last: bool = False


def measure(
    pipeline: Pipeline, cells: Sequence[SamplingCell], repetitions: int
) -> Iterator[BenchRow]:
    """A row for each cell; the cells take turns, so that a busy minute affects all of them."""
    seconds: list[list[tuple[float, float]]] = [[] for _ in cells]
    pictures: list[NDArray[np.int16]] = []
    for repetition in range(repetitions + 1):
        for number, cell in enumerate(cells):
            wall, cpu, drawn = _draw(pipeline, cell)
            if repetition:  # the first one warms up
                seconds[number].append((wall, cpu))
            else:
                pictures.append(drawn)
    for cell, taken, drawn in zip(cells, seconds, pictures, strict=True):
        common = min(len(drawn), len(pictures[0]))
        apart = np.abs(drawn[:common] - pictures[0][:common]).max()
        yield {
            "batch": cell.settings.batch,
            "workers": cell.settings.workers,
            "threads": cell.threads,
            "adapter": cell.adapter,
            "layout": "channels_last" if cell.channels_last else "contiguous",
            "images_per_second": cell.images / statistics.median(wall for wall, _ in taken),
            "cpu_seconds": statistics.median(cpu for _, cpu in taken) / cell.images,
            "most_grey_levels": None if cell.adapter else int(apart),
        }


def _draw(pipeline: Pipeline, cell: SamplingCell) -> tuple[float, float, NDArray[np.int16]]:
    """Wall and CPU seconds, and the pictures int16 [n, s, s, 3]."""
    torch.set_num_threads(cell.threads)
    layout = torch.channels_last if cell.channels_last else torch.contiguous_format
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=layout)
    if cell.adapter:
        _attach(pipeline)
    prompts, seeds = [PROMPT] * cell.images, list(range(cell.images))
    wall, cpu = time.perf_counter(), time.process_time()
    drawn = dict(sample_each(pipeline, prompts, seeds, cell.settings))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    detach(pipeline.unet)
    return wall, cpu, np.stack([np.asarray(drawn[seed], np.int16) for seed in seeds])


def _attach(pipeline: Pipeline) -> None:
    layout = attach(pipeline.unet, ADAPTER)
    noise = np.random.default_rng(0).standard_normal(layout.parameters, np.float32)
    write_vector(pipeline.unet, layout, read_vector(pipeline.unet, layout) + SPREAD * noise)


def cells_of(options: argparse.Namespace) -> list[SamplingCell]:
    """What is compared: batch sizes, workers against threads, layouts, an adapter."""
    steps, guidance = options.steps, options.guidance
    first = SamplingCell(
        SamplerSettings(steps, guidance, batch=options.batch[0], workers=options.cores),
        threads=1,
        images=options.images,
    )
    cells = [replace(first, settings=replace(first.settings, batch=b)) for b in options.batch]
    best = cells[-1]
    alone = replace(best, settings=replace(best.settings, workers=1))
    cells.append(replace(alone, threads=options.cores))
    if options.cores > 1:
        cells.append(alone)
    cells.append(replace(best, channels_last=True))
    cells.append(replace(best, adapter=True))
    return cells


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser("sampling", __doc__ or "")
    made.add_argument(
        "--base", default=SHIPPED_BASE, help="a pipeline's folder; by default the tiny base"
    )
    made.add_argument("--images", type=int, default=64, help="drawn in each repetition")
    made.add_argument("--batch", nargs="+", type=int, default=[4, 8, 16])
    made.add_argument("--cores", type=int, default=2)
    made.add_argument("--steps", type=int, default=20)
    made.add_argument("--guidance", type=float, default=3.0)
    made.add_argument("--repetitions", type=int, default=3)
    made.add_argument("--device", default="cpu")
    made.add_argument("--quick", action="store_true", help="two images, two steps: a smoke test")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m bench.sampling [--json] [--quick] ...`."""
    options = arguments().parse_args(argv)
    if options.quick:
        options.images, options.batch, options.steps, options.repetitions = 2, [1], 2, 1
    pipeline = load_base(locate_base(options.base), pick_device(options.device))
    threads = torch.get_num_threads()
    try:
        rows = list(measure(pipeline, cells_of(options), options.repetitions))
    finally:
        torch.set_num_threads(threads)
    print_rows("sampling", rows, as_json=options.json)


if __name__ == "__main__":
    main()

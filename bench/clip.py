"""What clipping costs: time and memory of a private LoRA step relative to an ordinary one.

Rows: `targets`, `batch`, `engine`, `time_ratio`, `memory_ratio`, and the figures behind them:
`examples_per_second`, and `peak_gib` above the loaded model.
A step is forward, backward, clip and SGD on one batch of a UNet2DConditionModel; each row is a
patient of its own, and no engine draws noise. Times are medians over pairs of an ordinary and a
private step, timed alternately; memory is measured in fresh processes.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from bench.clip_memory import peak_bytes
from bench.clip_steps import (
    CLIP_STEPS,
    SHAPES,
    TARGET_SETS,
    ClipSetting,
    make_clip_step,
)
from bench.output import BenchRow, parser, print_rows
from bench.training import GIB, time_pairs


def measure(setting: ClipSetting, engines: Sequence[str], pairs: int) -> Iterator[BenchRow]:
    """A row for each engine."""
    threads = torch.get_num_threads()
    plain = make_clip_step("plain", setting)
    base = peak_bytes("plain", setting, threads)
    for engine in engines:
        timing = time_pairs(plain, make_clip_step(engine, setting), pairs, setting.device)
        gc.collect()  # an engine's hooks hold its model in cycles
        peak = peak_bytes(engine, setting, threads)
        yield {
            "targets": setting.targets,
            "batch": setting.batch,
            "engine": engine,
            "time_ratio": timing.ratio,
            "memory_ratio": peak / base,
            "examples_per_second": setting.batch / timing.seconds,
            "peak_gib": peak / GIB,
        }


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser("clip", __doc__ or "")
    made.add_argument("--targets", nargs="+", choices=list(TARGET_SETS), default=list(TARGET_SETS))
    made.add_argument("--batch", nargs="+", type=int, default=[8, 32])
    made.add_argument("--engine", nargs="+", choices=list(CLIP_STEPS), default=list(CLIP_STEPS))
    made.add_argument("--pairs", type=int, default=9)
    made.add_argument("--rank", type=int, default=4)
    made.add_argument("--shape", choices=list(SHAPES), default="small")
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    made.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    made.add_argument("--threads", type=int, default=1, help="of the processor")
    made.add_argument("--quick", action="store_true", help="a tiny model, one cell: a smoke test")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m bench.clip [--json] [--quick] ...`."""
    options = arguments().parse_args(argv)
    if options.quick:
        options.targets, options.batch, options.shape = options.targets[-1:], [2], "tiny"
        options.pairs = 1
    torch.set_num_threads(options.threads)
    first = ClipSetting(
        shape=options.shape,
        targets=options.targets[0],
        batch=options.batch[0],
        rank=options.rank,
        device=options.device,
        precision=options.precision,
    )
    settings = [
        replace(first, targets=targets, batch=batch)
        for targets in options.targets
        for batch in options.batch
    ]
    rows = [row for setting in settings for row in measure(setting, options.engine, options.pairs)]
    print_rows("clip", rows, as_json=options.json)


if __name__ == "__main__":
    main()

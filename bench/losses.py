"""What stage two's terms cost: time and memory of a private step relative to denoising alone.

Rows: `base`, `batch`, `engine`, `loss`, `time_ratio`, `memory_ratio`, and the figures behind them:
`examples_per_second`, and `peak_gib` above the loaded model.
A step is forward passes, backward pass and clip on one batch of rows, each a patient of its own,
with LoRA of rank 4 on all cross-attention projections. Times are medians over pairs of a step of
denoising and one of the loss, timed alternately; memory is measured in fresh processes.
On a CPU the process' own time (all threads) is taken, so other load on the machine matters little.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import torch

from bench.clip_memory import measured_elsewhere, peak_of
from bench.engines import ENGINE_CLASSES
from bench.loss_steps import BASES, COMPARED_LOSSES, LossSetting, make_loss_step
from bench.output import BenchRow, parser, print_rows
from bench.training import GIB, StepClock, time_pairs

_PLAIN = "denoising"


def measure(setting: LossSetting, losses: Sequence[str], pairs: int) -> Iterator[BenchRow]:
    """A row for each loss."""
    plain = make_loss_step(_PLAIN, setting)
    base = _peak_bytes(_PLAIN, setting)
    for loss in losses:
        timing = time_pairs(
            plain, make_loss_step(loss, setting), pairs, setting.device, _clock(setting)
        )
        gc.collect()  # an engine's hooks hold its model in cycles
        peak = _peak_bytes(loss, setting)
        yield {
            "base": setting.base,
            "batch": setting.batch,
            "engine": setting.engine,
            "loss": loss,
            "time_ratio": timing.ratio,
            "memory_ratio": peak / base,
            "examples_per_second": setting.batch / timing.seconds,
            "peak_gib": peak / GIB,
        }


def _clock(setting: LossSetting) -> StepClock:
    return time.process_time if setting.device == "cpu" else time.perf_counter


def _peak_bytes(loss: str, setting: LossSetting) -> int:
    """Peak of a step above what was allocated before it, in a fresh process."""
    request = {"loss": loss, "threads": torch.get_num_threads(), "setting": asdict(setting)}
    return measured_elsewhere(["bench.losses", "--measure", json.dumps(request)])


def _measure_here(request: str) -> int:
    asked = json.loads(request)
    torch.set_num_threads(asked["threads"])
    setting = LossSetting(**asked["setting"])
    return peak_of(lambda: make_loss_step(asked["loss"], setting), setting.device)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser("losses", __doc__ or "")
    made.add_argument("--base", nargs="+", choices=list(BASES), default=["tiny", "small"])
    made.add_argument("--batch", nargs="+", type=int, default=[8, 32])
    made.add_argument("--engine", nargs="+", choices=list(ENGINE_CLASSES), default=["lora"])
    made.add_argument("--loss", nargs="+", choices=COMPARED_LOSSES, default=list(COMPARED_LOSSES))
    made.add_argument("--pairs", type=int, default=9)
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    made.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    made.add_argument("--threads", type=int, default=1, help="of the processor")
    made.add_argument("--quick", action="store_true", help="one small cell: a smoke test")
    made.add_argument("--measure", help=argparse.SUPPRESS)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m bench.losses [--json] [--quick] ...`."""
    options = arguments().parse_args(argv)
    if options.measure:
        print(_measure_here(options.measure))
        return
    if options.quick:
        options.base, options.batch, options.loss = ["tiny"], [2], [COMPARED_LOSSES[-1]]
        options.engine, options.pairs = options.engine[:1], 1
    torch.set_num_threads(options.threads)
    first = LossSetting("tiny", 1, device=options.device, precision=options.precision)
    settings = [
        replace(first, base=base, batch=batch, engine=engine)
        for base in options.base
        for batch in options.batch
        for engine in options.engine
    ]
    rows = [row for setting in settings for row in measure(setting, options.loss, options.pairs)]
    print_rows("losses", rows, as_json=options.json)


if __name__ == "__main__":
    main(sys.argv[1:])

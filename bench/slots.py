"""What a step with everybody in it costs, and whether its time tells who is there.

Rows: `who`, `seconds` (median; of the processor, or by the clock on a GPU), `spread` (of the middle
half of them), `patients_per_second` and `ratio` to the time with everybody. "drawn" is the same
step by way of a draw at rate 1, as studies without pooled noise make it; "again" is another attempt
at the step. The site is made up, at the shipped base: its places are those of the declared
patients. Kinds are timed in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import get_args

import numpy as np
import torch

from bench.output import BenchRow, parser, print_rows
from client.training import EncodedTiles, LocalTrainer
from client.training.precision import Precision
from craftsfl.simulation.members import SimulatedMembers
from model.adapters import initial_vector
from model.base import Pipeline, load_base
from model.cache import SHIPPED_BASE, locate_base
from model.heap import keep_freed_memory
from model.text import encode_captions
from privacy.study.manifest import Study

_MEMBERS = SimulatedMembers.seeded(("north", "south", "east"), consortium="slots")
_TARGETS = ("attn1.to_v", "attn1.to_out.0", "attn2.to_v", "attn2.to_out.0")


def study_of_all(patients: int) -> Study:
    """Everybody in every step: rank 1, A frozen, two tiles of a patient, two draws of each."""
    return Study.model_validate(
        {
            "name": "slots",
            "rounds": 1,
            "base": {"digest": "sha256:" + "0" * 64, "source": SHIPPED_BASE},
            "adapter": {"targets": _TARGETS, "rank": 1, "alpha": 1.0, "frozen_a": True},
            "training": {
                "sampling_rate": 1.0,
                "steps": 1,
                "tiles_per_patient": 2,
                "draws_per_tile": 2,
                "clipping_norm": 0.002,
                "noise_multiplier": 0.0,
                "optimizer": "sgd",
                "learning_rate": 1.0,
            },
            "privacy": {"delta": 1e-5},
            "aggregation": {"strategy": "fedavg"},
            "cohort": {"min_sites": 3, "round_deadline": 60, "reply_slot": 1},
            **_MEMBERS.sites(patients),
            "samples": {"prompts": ["glands"], "seeds": [1]},
        }
    )


def made_up(pipeline: Pipeline, patients: int) -> EncodedTiles:
    """Two tiles of noise for each patient, in the shapes of the base."""
    random = np.random.default_rng(0)
    config = pipeline.unet.config
    size = (2 * patients, config.in_channels, config.sample_size, config.sample_size)
    return EncodedTiles(
        latents=torch.from_numpy(random.standard_normal(size, dtype=np.float32)),
        text=encode_captions(pipeline, ["glands"]),
        caption_of=torch.zeros(2 * patients, dtype=torch.int64),
        patient_of=torch.arange(patients).repeat_interleave(2),
    )


def measure(
    patients: int, repeats: int, device: str, precision: Precision = "float32"
) -> Iterator[BenchRow]:
    """A row for every kind."""
    pipeline = load_base(locate_base(SHIPPED_BASE), torch.device(device))
    study, tiles = study_of_all(patients), made_up(pipeline, patients)
    there = {
        "everybody": tiles,
        "one less": tiles.without({0}),
        "half": tiles.without(range(0, patients, 2)),
        "nobody": tiles.without(range(patients)),
    }
    trainers = {
        who: LocalTrainer(study, "north", pipeline, own, precision=precision)
        for who, own in there.items()
    }
    start = initial_vector(trainers["everybody"].layout, b"slots")
    kinds: dict[str, Callable[[int], object]] = {
        who: lambda step, trainer=trainer: _summed(trainer, start, step)  # type: ignore[misc]
        for who, trainer in trainers.items()
    }
    everybody = trainers["everybody"]
    kinds["drawn"] = lambda _: everybody.train(start, progress=_nothing, should_stop=_never)
    seconds = _timed(kinds, repeats, device)
    seconds["again"] = [_took(lambda: _summed(everybody, start, repeats), device) for _ in "12345"]
    whole = statistics.median(seconds["everybody"])
    for who, found in seconds.items():
        middle = statistics.median(found)
        low, _, high = statistics.quantiles(found, n=4)
        yield {
            "who": who,
            "seconds": middle,
            "spread": high - low,
            "patients_per_second": patients / middle,
            "ratio": middle / whole,
        }


def _timed(
    kinds: Mapping[str, Callable[[int], object]], repeats: int, device: str
) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {who: [] for who in kinds}
    for step in range(repeats + 1):  # the first time is not counted
        turned = list(kinds.items())
        for who, work in turned[step % len(turned) :] + turned[: step % len(turned)]:
            took = _took(lambda work=work, step=step: work(step), device)  # type: ignore[misc]
            if step:
                seconds[who].append(took)
    return seconds


def _took(work: Callable[[], object], device: str) -> float:
    on_gpu = device.startswith("cuda")
    clock = time.perf_counter if on_gpu else time.process_time
    begun = clock()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - begun


def _summed(trainer: LocalTrainer, start: np.ndarray, step: int) -> object:
    return trainer.clipped_sum(start, step, progress=_nothing, should_stop=_never)


def _nothing(done: int, total: int) -> None:
    """Nobody watches."""


def _never() -> bool:
    return False


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser("slots", __doc__ or "")
    made.add_argument("--patients", type=int, default=160)
    made.add_argument("--repeats", type=int, default=9)
    made.add_argument("--device", default="cpu", help="cpu or cuda")
    made.add_argument("--precision", choices=get_args(Precision), default="float32")
    made.add_argument("--threads", type=int, default=1, help="of the processor")
    made.add_argument(
        "--quick", action="store_true", help="few patients, two repeats: a smoke test"
    )
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m bench.slots [--json] [--quick] ...`."""
    options = arguments().parse_args(argv)
    if options.quick:
        options.patients, options.repeats = 5, 2
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as a trainer does
    rows = list(measure(options.patients, options.repeats, options.device, options.precision))
    print_rows("slots", rows, as_json=options.json)


if __name__ == "__main__":
    main()

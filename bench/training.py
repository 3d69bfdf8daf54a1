"""What the benchmarks of training steps have in common: targets, and timing in pairs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

CROSS_ATTENTION: Final = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
TrainingStep = Callable[[], None]
GIB = 2**30
StepClock = Callable[[], float]  # seconds since an arbitrary moment


@dataclass(frozen=True)
class StepTiming:
    """Seconds of a private step, and its ratio to an ordinary one (medians over pairs)."""

    seconds: float
    ratio: float


def time_pairs(
    plain: TrainingStep,
    private: TrainingStep,
    pairs: int,
    device: str,
    clock: StepClock = time.perf_counter,
) -> StepTiming:
    """Time both alternately, after one step of each; which one goes first alternates too."""
    seconds: dict[TrainingStep, list[float]] = {plain: [], private: []}
    plain()
    private()
    for pair in range(pairs):
        for step in (plain, private)[:: 1 if pair % 2 else -1]:
            seconds[step].append(_seconds(step, device, clock))
    ratios = [mine / base for mine, base in zip(seconds[private], seconds[plain], strict=True)]
    return StepTiming(statistics.median(seconds[private]), statistics.median(ratios))


def _seconds(step: TrainingStep, device: str, clock: StepClock) -> float:
    _wait(device)
    start = clock()
    step()
    _wait(device)
    return clock() - start


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()

"""What `make gpu-check` is asked to check, and what a part of it yields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench import sensitivity
from bench.engines import ENGINE_CLASSES
from bench.output import BenchRow
from bench.sensitivity_world import LOSS_TERMS

PRECISIONS: Final = ("float32", "bf16")


@dataclass(frozen=True)
class GpuPlan:
    """What is checked, and on which device."""

    device: str
    engines: tuple[str, ...] = tuple(ENGINE_CLASSES)
    losses: tuple[str, ...] = tuple(LOSS_TERMS)
    precisions: tuple[str, ...] = PRECISIONS
    scales: tuple[str, ...] = sensitivity.SCALES
    seeds: int = 1
    patients: int | None = None  # how many are left out, one by one; None: all
    shape: str = "sd15"
    batches: tuple[int, ...] = (8, 32)
    pairs: int = 5
    pooled: tuple[int, ...] = (20_000, 400_000)  # numbers of an adapter


@dataclass(frozen=True)
class GpuCase:
    """A future row: `what` it is about, and the function that finds out the rest."""

    check: str
    what: BenchRow
    look: Callable[[], BenchRow]


def quick(device: str) -> GpuPlan:
    """The same code on the smallest shapes."""
    return GpuPlan(
        device,
        engines=("lora",),
        losses=("denoising",),
        scales=(sensitivity.SHARPENED,),
        patients=2,
        precisions=PRECISIONS[:1],
        shape="tiny",
        batches=(2,),
        pairs=1,
        pooled=(1000,),
    )

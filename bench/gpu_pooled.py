"""The parts of `make gpu-check` about studies that pool their noise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Final

import numpy as np
import torch

from bench import sensitivity
from bench.gpu_plan import GpuCase, GpuPlan
from bench.output import BenchRow
from bench.sensitivity_world import World
from privacy.dpsgd.assignment import fixed
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.share import centres_of, noised
from privacy.mechanisms.pooled.terms import PooledTerms
from privacy.secagg.sealed.residues import packed_residues, reduced, residues_of
from privacy.secagg.stream import apply_masks

_SITES: Final = 12
_SEED: Final = bytes(32)  # public in a study; here of the secrets too: nobody is protected


def slots(plan: GpuPlan) -> Iterator[GpuCase]:
    """Does a patient add the same integers whoever else is there, and at most C?"""
    for scale, engine, loss in product((sensitivity.SHARPENED,), plan.engines, plan.losses):
        what: BenchRow = {"engine": engine, "loss": loss, "scale": scale}
        yield GpuCase("slots", what, partial(_slots, plan, engine, loss, scale))


def _slots(plan: GpuPlan, engine: str, loss: str, scale: str) -> BenchRow:
    world = World(engine, loss, plan.device, assign=fixed)
    vector = sensitivity.adapter(world.layout, scale, 0)
    everyone = world.integers(vector, 0)
    equal, longest, adding = True, 0, 0
    for patient in range(plan.patients or world.patients):
        others = [other for other in range(world.patients) if other != patient]
        own = world.integers(vector, 0, without=others)
        equal &= np.array_equal(everyone, own + world.integers(vector, 0, without=[patient]))
        adding += bool(own.any())
        longest = max(longest, sum(int(number) ** 2 for number in own))
    return {"equal": equal, "adding": adding, "within_clip": longest <= 4**CONTRIBUTION_BITS}


def beside(plan: GpuPlan) -> Iterator[GpuCase]:
    """What noise and masks of a step take on the processor, alone and while a step trains."""
    for parameters in plan.pooled:
        look = partial(_beside, plan, parameters)
        yield GpuCase("beside", {"parameters": parameters, "sites": _SITES}, look)


def _beside(plan: GpuPlan, parameters: int) -> BenchRow:
    world = World(plan.engines[0], plan.losses[0], plan.device, assign=fixed)
    vector = sensitivity.adapter(world.layout, plan.scales[0], 0)
    share = share_of(parameters)
    train = partial(world.integers, vector, 0)
    train()  # the first step of a device takes longer
    share()
    training, sharing = _seconds(train), _seconds(share)
    stop = threading.Event()
    shares = [0]
    thread = threading.Thread(target=_again_and_again, args=(share, stop, shares))
    thread.start()
    try:
        both = _seconds(train)
    finally:
        stop.set()
        thread.join()
    return {
        "training_seconds": training,
        "share_seconds": sharing,
        "training_beside_ratio": both / training,
        "shares_beside": shares[0],
    }


def share_of(parameters: int) -> Callable[[], object]:
    """What a site's agent does with a sum of so many numbers: centres, noise, lanes, masks."""
    terms = PooledTerms(
        sites=_SITES,
        smallest_cohort=_SITES,
        noise_colluders=1,
        noise_multiplier=5.0,
        clipping_norm=0.002,
        parameters=parameters,
        steps=40,
        spare_attempts=8,
        patients=_SITES * 200,
    )
    grid = PooledGrid.of(terms, _SITES, _SEED)
    total = np.random.default_rng(0).integers(-(2**30), 2**30, parameters)
    peers = [(bytes([peer]) * 32, 1 if peer % 2 else -1) for peer in range(_SITES - 1)]

    def share() -> object:
        words = residues_of(noised(centres_of(total, grid), grid, _SEED), grid.bits)
        apply_masks(words, peers)
        return packed_residues(reduced(words, grid.bits), grid.bits)

    return share


def _again_and_again(share: Callable[[], object], stop: threading.Event, done: list[int]) -> None:
    while not stop.is_set():
        share()
        done[0] += 1


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun

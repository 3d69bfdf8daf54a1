"""What `make gpu-check` checks, part by part; each part yields rows as it goes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from itertools import product
from types import MappingProxyType
from typing import Final

import torch

from bench import sensitivity
from bench.clip_memory import peak_of
from bench.clip_steps import ClipSetting, make_clip_step
from bench.gpu_plan import GpuCase, GpuPlan
from bench.gpu_pooled import beside, slots
from bench.output import BenchRow
from bench.sensitivity_world import World, unpadded
from bench.training import GIB, time_pairs
from privacy.dpsgd.assignment import packed


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Switch TF32 on or off outside the engine, as another part of the process might."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@lru_cache(maxsize=8)
def _world(engine: str, loss: str, device: str, protected: bool) -> World:
    return World(engine, loss, device, assign=packed if protected else unpadded)


def isolation(plan: GpuPlan) -> Iterator[GpuCase]:
    """Does a place's gradient depend on what the others hold, or on the place?"""
    for precision, engine, loss, allowed in product(
        plan.precisions, plan.engines, plan.losses, (False, True)
    ):
        what: BenchRow = {"engine": engine, "loss": loss, "precision": precision, "tf32": allowed}
        look = partial(_isolation, plan.device, engine, loss, precision, allowed)
        yield GpuCase("isolation", what, look)


def _isolation(device: str, engine: str, loss: str, precision: str, allowed: bool) -> BenchRow:
    with tf32(allowed):
        found = _world(engine, loss, device, True).isolation(autocast=precision == "bf16")
    return {"in_place": found.in_place, "permuted": found.permuted}


def moved(plan: GpuPlan) -> Iterator[GpuCase]:
    """How far one patient moves the clipped sum, in units of C."""
    sharpest = (sensitivity.SHARPENED,)
    for protected in (True, False):
        scales = plan.scales if protected else sharpest
        for scale, engine, loss in product(scales, plan.engines, plan.losses):
            look = partial(_moved, plan, engine, loss, scale, protected)
            what: BenchRow = {
                "engine": engine,
                "loss": loss,
                "scale": scale,
                "protected": protected,
            }
            yield GpuCase("sensitivity", what, look)


def _moved(plan: GpuPlan, engine: str, loss: str, scale: str, protected: bool) -> BenchRow:
    found = sensitivity.leave_one_out(
        _world(engine, loss, plan.device, protected), scale, plan.seeds, plan.patients
    )
    ratio = float(found.values.max())
    small = not protected and ratio <= sensitivity.LEAST_CONTROL
    row = {"leave_one_outs": len(found.values), "clipped": found.clipped, "ratio": ratio}
    return {**row, "note": "control too small"} if small else row


def clipping(plan: GpuPlan) -> Iterator[GpuCase]:
    """Time and memory of a private step relative to an ordinary one, both in this process."""
    for batch, precision, allowed in product(plan.batches, plan.precisions, (False, True)):
        setting = ClipSetting(
            plan.shape, "attn", batch=batch, device=plan.device, precision=precision
        )
        what: BenchRow = {
            "shape": plan.shape,
            "batch": batch,
            "precision": precision,
            "tf32": allowed,
        }
        yield GpuCase("clip", what, partial(_clip, setting, plan.pairs, allowed))


def _clip(setting: ClipSetting, pairs: int, allowed: bool) -> BenchRow:
    with tf32(allowed):
        plain, private = make_clip_step("plain", setting), make_clip_step("lora", setting)
        timing = time_pairs(plain, private, pairs, setting.device)
        base = peak_of(lambda: plain, setting.device)
        peak = peak_of(lambda: private, setting.device)
    return {
        "time_ratio": timing.ratio,
        "memory_ratio": peak / base if base > 0 else None,
        "examples_per_second": setting.batch / timing.seconds,
        "peak_gib": peak / GIB,
    }


ISOLATED: Final = """
import json, sys
from client.agent.isolation import confinement, isolate
isolate()
text = confinement().text
import torch
print(json.dumps({"confinement": text, "sum": torch.ones(3, device=sys.argv[1]).sum().item()}))
"""


def confined(plan: GpuPlan) -> Iterator[GpuCase]:
    """Does the device work in a process that has cut itself off as the agent does?"""
    yield GpuCase("agent", {}, partial(_confined, plan.device))


def _confined(device: str) -> BenchRow:
    command = [sys.executable, "-c", ISOLATED, device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-300:] or f"exit code {done.returncode}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {"usable": found["sum"] == 3.0, "confinement": found["confinement"]}


PARTS: Final[Mapping[Callable[[GpuPlan], Iterator[GpuCase]], float]] = MappingProxyType(
    {
        confined: 30.0,
        isolation: 110.0,
        moved: 130.0,
        slots: 50.0,
        clipping: 110.0,
        beside: 20.0,
    }
)
"""Parts in their order, and the seconds that each may take: 7 minutes and a half in all."""

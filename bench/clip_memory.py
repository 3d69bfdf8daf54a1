"""The peak memory of one training step, in its own process: bytes above the loaded model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch

from bench.clip_steps import ClipSetting, make_clip_step
from bench.training import TrainingStep

_STEPS: Final = 2
# Freed tensors go back to the system at once: without it the resident size counts malloc's holes,
# and varies by several per cent between processes.
_MALLOC: Final = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
_CLEAR_PEAK: Final = "5"  # proc(5), clear_refs: peak := current resident size


def peak_bytes(engine: str, setting: ClipSetting, threads: int) -> int:
    """Peak of a step of `engine` above what was allocated before it, in a fresh process.

    CPU: resident set size. GPU: bytes allocated by torch. Model, imports and CUDA context are
    not counted: they are the same for all engines and would only pull every ratio towards 1.
    """
    request = {"engine": engine, "threads": threads, "setting": asdict(setting)}
    return measured_elsewhere(["bench.clip_memory", json.dumps(request)])


def measured_elsewhere(module: Sequence[str]) -> int:
    """The number of bytes that `python -m MODULE ARGUMENTS` prints last, in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", *module],
        check=True,
        env={**os.environ, **_MALLOC},
        stdout=subprocess.PIPE,
        text=True,
    )
    return int(done.stdout.split()[-1])


def measure(engine: str, setting: ClipSetting) -> int:
    """As `peak_bytes`, but in this process, which must not have taken a step before."""
    return peak_of(lambda: make_clip_step(engine, setting), setting.device)


def peak_of(make: Callable[[], TrainingStep], device: str) -> int:
    """Peak of the step that `make` returns, above what was allocated before; once per process."""
    step = make()
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(_STEPS):
            step()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK)
    before = _status("VmRSS")
    for _ in range(_STEPS):
        step()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    """A figure of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    torch.set_num_threads(request["threads"])
    print(measure(request["engine"], ClipSetting(**request["setting"])))

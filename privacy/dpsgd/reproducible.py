"""The settings under which a row's arithmetic depends on shapes and places alone.

A device may choose among kernels that round differently: by timing them (autotune), by what is
free at the moment (workspace), by the order in which threads arrive (atomics), at a precision that
was switched on elsewhere (TF32). Inside `reproducible` none of that is left to it. What remains,
how a kernel treats a *place* in a batch, is looked at by `privacy.dpsgd.isolation`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from privacy.errors import ModelError

_DENORMAL: Final = 71362  # the bits of 1e-40: as a number it would be flushed when it is written
_EACH: Final = 1 << 16  # numbers for every thread: torch gives none fewer than 2^15
_WORKSPACE: Final = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Inside, the same shapes mean the same kernels in the same order; then all is as before.

    On CUDA: deterministic algorithms (an operation without one raises), no autotuning, no TF32,
    attention without atomic additions, a fixed cuBLAS workspace. On a CPU: one treatment of
    denormal numbers in all threads. Raises `ModelError` where that cannot be had.
    """
    with ExitStack() as stack:
        if device.type == "cuda":
            _fix_workspace()
            stack.enter_context(_switched(_deterministic, torch.use_deterministic_algorithms, True))
            cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
            for place, name, value in (
                (cudnn, "benchmark", False),
                (cudnn, "deterministic", True),
                (cudnn, "allow_tf32", False),
                (matmul, "allow_tf32", False),
                (matmul, "allow_bf16_reduced_precision_reduction", False),
                (matmul, "allow_fp16_reduced_precision_reduction", False),
            ):
                stack.enter_context(_attribute(place, name, value))
            # The memory-efficient kernels add up the gradients of keys and values atomically.
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        elif device.type == "cpu":
            stack.callback(torch.set_flush_denormal, _flushes_here())
            treat_denormals_alike()
        yield


def treat_denormals_alike() -> bool:
    """Flush denormal numbers to zero in every thread, or else in none; true if they are flushed.

    The processor's flag is each thread's own, and is inherited by threads that are made later.
    Where some of this thread's helpers were made before it was set, they keep the other way:
    then it is taken back, so that a row does not depend on which thread computes it.
    Raises `ModelError` where they differ all the same.
    """
    for flush in (True, False):
        torch.set_flush_denormal(flush)
        if _share_flushed() == float(flush):
            return flush
    raise ModelError(
        "The threads of this process treat denormal numbers differently.",
        "Do not call torch.set_flush_denormal anywhere else in the process.",
    )


def _flushes_here() -> bool:
    return _flushed(1) == 1.0


def _share_flushed() -> float:
    """Share of numbers whose thread flushes denormals: 0, 1, or between where threads differ."""
    return _flushed(_EACH * torch.get_num_threads())


def _flushed(count: int) -> float:
    tiny = torch.full((count,), _DENORMAL, dtype=torch.int32).view(torch.float32)
    return float(((tiny * 1.0).view(torch.int32) == 0).double().mean())


def _fix_workspace() -> None:
    found = os.environ.setdefault(_WORKSPACE, ":4096:8")
    if found not in (":4096:8", ":16:8"):
        raise ModelError(
            f"{_WORKSPACE} is {found!r}: cuBLAS may sum in another order each time.",
            f"Set {_WORKSPACE}=:4096:8 before the agent starts, or leave it out.",
        )


def _deterministic() -> bool:
    return torch.are_deterministic_algorithms_enabled()


@contextmanager
def _switched(
    read: Callable[[], bool], write: Callable[[bool], None], value: bool
) -> Iterator[None]:
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


@contextmanager
def _attribute(place: object, name: str, value: bool) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)

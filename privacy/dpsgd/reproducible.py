"""The settings under which a row's arithmetic depends on shapes and places alone.

A device may choose among kernels that round differently: by timing them (autotune), by the memory
that happens to be free (workspace), by the order in which threads arrive (atomics), or at a
precision that was switched on elsewhere (TF32). `reproducible` leaves it none of these choices.
What remains, how a kernel treats a *place* in a batch, is tested by `privacy.dpsgd.isolation`.

All these settings belong to the process, not to a thread: they also hold in autograd's threads, in
which a GPU's backward pass runs. The exception is how the processor treats denormal numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeVar

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from privacy.errors import ModelError

_DENORMAL: Final = 71362  # the bits of 1e-40, which as a number might be flushed when written
_EACH: Final = 1 << 16  # numbers for every thread: torch assigns at least 2^15 to each
_WORKSPACE: Final = "CUBLAS_WORKSPACE_CONFIG"
_SUMS: Final = (
    "allow_bf16_reduced_precision_reduction",
    "allow_fp16_reduced_precision_reduction",
)
_T = TypeVar("_T")

# torch reads it only once, at the process's first matrix product on a GPU. The agent has encoded
# tiles there before it takes the first gradient, so this is set at the import, not inside.
os.environ.setdefault(_WORKSPACE, ":4096:8")


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Inside, the same shapes mean the same kernels in the same order; afterwards all is as before.

    On CUDA: deterministic algorithms (an operation without one raises), no autotuning, no TF32,
    attention without atomic additions, a fixed cuBLAS workspace. On a CPU: one treatment of
    denormal numbers in all threads. Raises `ModelError` where that is not possible.
    """
    with ExitStack() as stack:
        if device.type == "cuda":
            _check_workspace()
            stack.enter_context(_deterministic_algorithms())
            stack.enter_context(_attribute(torch.backends.cudnn, "benchmark", False))
            stack.enter_context(_attribute(torch.backends.cudnn, "deterministic", True))
            stack.enter_context(_full_precision())
            # The memory-efficient kernels add up the gradients of keys and values atomically.
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        elif device.type == "cpu":
            stack.callback(torch.set_flush_denormal, _flushes_here())
            treat_denormals_alike()
        yield


def treat_denormals_alike() -> bool:
    """Flush denormal numbers to zero in every thread, or else in none; true if they are flushed.

    Each thread has its own flag in the processor, and threads inherit it when they are started.
    Helper threads that were started before it was set do not flush; then it is set back here, so
    that a row does not depend on which thread computes it. Raises `ModelError` where threads still
    differ.
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
    """Share of numbers whose thread flushes denormals: 0 or 1, or between where threads differ."""
    return _flushed(_EACH * torch.get_num_threads())


def _flushed(count: int) -> float:
    tiny = torch.full((count,), _DENORMAL, dtype=torch.int32).view(torch.float32)
    return float(((tiny * 1.0).view(torch.int32) == 0).double().mean())


def _check_workspace() -> None:
    found = os.environ.get(_WORKSPACE)
    if found not in (":4096:8", ":16:8"):
        raise ModelError(
            f"{_WORKSPACE} is {found!r}: cuBLAS may sum in another order each time.",
            f"Set {_WORKSPACE}=:4096:8 before the agent starts, or leave it out.",
        )


@contextmanager
def _deterministic_algorithms() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32 and no sums in half precision, whatever was switched on in either of torch's ways.

    The two exclude each other: `allow_tf32`, and `fp32_precision` with a value for each kind of
    operation, which is inherited where it is "none". *Reading* the first where the second was used
    raises `RuntimeError`; and `allow_tf32 = False` on cuDNN leaves "none", which means TF32 again
    where that is inherited. So both are written, the older one first.
    """
    backends: Any = torch.backends  # torch's types lack the newer way
    matmul, cudnn, onednn = backends.cuda.matmul, backends.cudnn, backends.mkldnn
    older, on_cudnn = _older_precision(), _readable(lambda: cudnn.allow_tf32)
    kinds = (matmul, cudnn.conv, cudnn.rnn)
    # set_float32_matmul_precision changes onednn's as well.
    before = [(kind, kind.fp32_precision) for kind in (*kinds, onednn.matmul)]
    sums = [(name, (getattr(matmul, name), getattr(matmul, f"{name}_split_k"))) for name in _SUMS]
    try:
        for name in _SUMS:
            setattr(matmul, name, False)
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        if on_cudnn is not None:
            cudnn.allow_tf32 = on_cudnn
        for kind, precision in before:
            kind.fp32_precision = precision
        for name, setting in sums:
            setattr(matmul, name, setting)


def _older_precision() -> str:
    """What `torch.get_float32_matmul_precision` returns, or would if it did not refuse."""
    matmul = torch.backends.cuda.matmul
    found = _readable(torch.get_float32_matmul_precision)
    if isinstance(found, str):
        return found
    return "high" if _readable(lambda: matmul.allow_tf32) else "highest"


def _readable(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except RuntimeError:  # the two ways contradict each other
        return None


@contextmanager
def _attribute(place: object, name: str, value: bool) -> Iterator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)

"""What is switched on inside, and that nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from privacy.dpsgd import reproducible as module
from privacy.dpsgd.reproducible import reproducible, treat_denormals_alike
from privacy.errors import ModelError

DENORMAL = 71362  # the bits of 1e-40


def flushes() -> bool:
    return float(torch.tensor([DENORMAL], dtype=torch.int32).view(torch.float32) * 1.0) == 0.0


@pytest.mark.parametrize("before", [True, False])
def test_denormals_are_treated_as_before_afterwards(before: bool) -> None:
    torch.set_flush_denormal(before)
    try:
        with reproducible(torch.device("cpu")):
            pass
        assert flushes() is before
    finally:
        torch.set_flush_denormal(False)


SCRIPT = """
import os, torch
from privacy.dpsgd.reproducible import treat_denormals_alike

def found(early):
    torch.set_num_threads(2)
    if early:
        (torch.ones(1 << 20) * 2).sum()  # the helping threads are made here, without the flag
    alike = treat_denormals_alike()
    tiny = torch.full((1 << 20,), 71362, dtype=torch.int32).view(torch.float32)
    return alike, ((tiny * 1.0).view(torch.int32) == 0).double().mean().item()

for early in (False, True):
    if os.fork() == 0:  # torch has made no thread yet
        print(*found(early), flush=True)
        os._exit(0)
    os.wait()
"""


def test_all_threads_flush_or_none() -> None:
    """torch sets the flag in one thread alone: half of a tensor would be flushed, half not."""
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.splitlines() == ["True 1.0", "False 0.0"]


def test_threads_that_differ_all_the_same_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_share_flushed", lambda: 0.5)
    with pytest.raises(ModelError, match="differently"):
        treat_denormals_alike()


class FakeCuda:
    """Stands for a GPU's settings on machines without one: they can be set there too."""

    type = "cuda"


def test_the_settings_of_a_gpu_hold_inside_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    monkeypatch.setattr(cudnn, "benchmark", True)
    matmul.allow_tf32 = True  # it cannot be patched: it has a setter but no attribute
    device: Any = FakeCuda()
    with reproducible(device):
        assert torch.are_deterministic_algorithms_enabled()
        assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == (False, True, False)
        assert not matmul.allow_tf32
        assert not matmul.allow_bf16_reduced_precision_reduction
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.backends.cuda.math_sdp_enabled()
        assert not torch.backends.cuda.mem_efficient_sdp_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert cudnn.benchmark
    assert matmul.allow_tf32
    matmul.allow_tf32 = False
    assert torch.backends.cuda.mem_efficient_sdp_enabled()


def test_a_workspace_that_varies_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    device: Any = FakeCuda()
    with pytest.raises(ModelError, match=":4096:8"), reproducible(device):
        pass


@pytest.mark.slow
@pytest.mark.ci
def test_the_workspace_is_fixed_before_a_gpu_could_start() -> None:
    """torch looks at the variable once, at the first matrix product: tiles are encoded by then."""
    script = """
import os
from model.importing import quick_imports
with quick_imports():
    import client.training
print(os.environ["CUBLAS_WORKSPACE_CONFIG"])
"""
    clean = {k: v for k, v in os.environ.items() if k != "CUBLAS_WORKSPACE_CONFIG"}
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=clean, timeout=120
    )
    assert found.stdout.strip() == ":4096:8", found.stderr


def precisions() -> list[object]:
    """All that torch lets us see of them; None where it refuses to answer."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    ways = (
        lambda: matmul.allow_tf32,
        lambda: cudnn.allow_tf32,
        torch.get_float32_matmul_precision,
        lambda: [k.fp32_precision for k in (matmul, cudnn.conv, cudnn.rnn, cudnn)],
        lambda: torch.backends.mkldnn.matmul.fp32_precision,
        lambda: matmul.allow_bf16_reduced_precision_reduction_split_k,
    )
    return [module._readable(way) for way in ways]


def _newer_way() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def _of_all_kinds() -> None:
    torch.backends.fp32_precision = "tf32"


def _one_of_cudnn() -> None:
    torch.backends.cudnn.rnn.fp32_precision = "ieee"


def _without_split_k() -> None:
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = (False, False)


@pytest.fixture
def as_at_the_start() -> Iterator[None]:
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = (True, True)


@pytest.mark.usefixtures("as_at_the_start")
@pytest.mark.parametrize(
    "outside",
    [
        lambda: None,
        lambda: torch.set_float32_matmul_precision("medium"),
        _newer_way,
        _of_all_kinds,
        _one_of_cudnn,
        _without_split_k,
    ],
)
def test_tf32_is_off_inside_whichever_way_it_was_switched_on(outside: Callable[[], None]) -> None:
    outside()
    before = precisions()
    device: Any = FakeCuda()
    with reproducible(device):
        kinds = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
        assert [kind.fp32_precision for kind in kinds] == ["ieee"] * 3
        assert not torch.backends.cuda.matmul.allow_tf32  # reading it refuses where they disagree
        assert not torch.backends.cudnn.allow_tf32
    assert precisions() == before


def test_a_warning_stays_a_warning_afterwards() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    device: Any = FakeCuda()
    try:
        with reproducible(device):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)

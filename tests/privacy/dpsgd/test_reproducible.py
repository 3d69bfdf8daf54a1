"""What is switched on inside, and that nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
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
import torch
from privacy.dpsgd.reproducible import treat_denormals_alike
torch.set_num_threads(2)
if EARLY:
    (torch.ones(1 << 20) * 2).sum()  # the helping threads are made here, without the flag
print(treat_denormals_alike())
tiny = torch.full((1 << 20,), 71362, dtype=torch.int32).view(torch.float32)
print(((tiny * 1.0).view(torch.int32) == 0).double().mean().item())
"""


@pytest.mark.parametrize(("early", "share"), [(False, 1.0), (True, 0.0)])
def test_all_threads_flush_or_none(early: bool, share: float) -> None:
    """torch sets the flag in one thread alone: half of a tensor would be flushed, half not."""
    script = SCRIPT.replace("EARLY", str(early))
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.split() == [str(share == 1.0), str(share)]


def test_threads_that_differ_all_the_same_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_share_flushed", lambda: 0.5)
    with pytest.raises(ModelError, match="differently"):
        treat_denormals_alike()


class FakeCuda:
    """Stands for a GPU's settings on machines without one: they can be set there too."""

    type = "cuda"


def test_the_settings_of_a_gpu_hold_inside_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
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

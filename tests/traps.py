"""A folder of Python files that no process of ours may ever run, and which of them were run."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

NAMES = ("client", "server", "model", "privacy", "strategies", "craftsfl", "flwr", "torch", "numpy")
_TRAP = "import pathlib\npathlib.Path(__file__).with_suffix('.sprung').touch()\n"


def set_traps(folder: Path) -> Path:
    """Make `folder`, with a file for each of `NAMES` that leaves a mark when it is imported."""
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(_TRAP)
    return folder


def sprung(folder: Path) -> list[str]:
    """The names of those that were imported."""
    return sorted(path.stem for path in folder.glob("*.sprung"))


def forbid_ordinary_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every ordinary generator raise: what still works uses none of them."""
    torch = pytest.importorskip("torch")

    def refuse(*_args: object, **_keywords: object) -> None:
        raise AssertionError("an ordinary random generator was used for noise")

    names = ("randn", "randn_like", "rand", "rand_like", "normal", "randint", "randperm")
    for name in (*names, "bernoulli", "multinomial", "poisson"):
        monkeypatch.setattr(torch, name, refuse)
    for name in ("normal_", "uniform_", "random_", "bernoulli_"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    for name in ("normal", "standard_normal", "randn", "rand", "random", "uniform", "default_rng"):
        monkeypatch.setattr(np.random, name, refuse)
    for name in ("RandomState", "Generator", "PCG64", "permutation", "choice", "shuffle"):
        monkeypatch.setattr(np.random, name, refuse)
    for name in ("random", "gauss", "normalvariate", "getrandbits", "sample", "shuffle"):
        monkeypatch.setattr(random, name, refuse)

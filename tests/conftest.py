"""Fixtures that every package's tests share. Heavy imports stay inside the fixtures."""

from __future__ import annotations

import copy
import functools
import gc
import os
import signal
from collections.abc import Generator, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model.importing import quick_imports

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

# Read once, when huggingface_hub is imported: no test may use the network.
os.environ["HF_HUB_OFFLINE"] = "1"
# Small tensors, few cores: threads that wait for each other make the tests ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell lets what it starts in the background ignore Ctrl-C, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Every test file imports torch and its like: no garbage collector has to walk them again.

    What tests import and build later it walks less often: the default, a look at every 700 new
    objects, is a tenth of the time that tests compute.
    """
    with quick_imports():
        collected = yield
    gc.set_threshold(20_000)
    return collected


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """What a command does to its own process's files must not outlast the test that calls it."""
    before = os.umask(0o022)
    os.umask(before)
    try:
        return (yield)
    finally:
        os.umask(before)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random tiny pipeline (see tests/tiny.py). Shared: never write into it."""
    from tests.tiny import build_tiny_base

    return build_tiny_base(tmp_path_factory.mktemp("base") / "pipeline")


@pytest.fixture(scope="session")
def tinier_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for images of 32 px: where whole agents train on it. Shared: never write into it."""
    from tests.tiny import build_tiny_base

    return build_tiny_base(tmp_path_factory.mktemp("tinier") / "pipeline", latents=8)


@pytest.fixture(scope="session")
def loaded_tiny_base(tiny_base: Path) -> StableDiffusionPipeline:
    """Shared: take `tiny_pipeline`, a test's own copy, instead."""
    from model.base import load_base

    return load_base(tiny_base)


@pytest.fixture
def tiny_pipeline(loaded_tiny_base: StableDiffusionPipeline) -> StableDiffusionPipeline:
    """A copy of the tiny pipeline for one test: on the CPU, float32, frozen."""
    return copy.deepcopy(loaded_tiny_base)  # a quarter of the time of loading it again


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """MLflow takes seconds to create its tables, so all tests start from a copy of one file."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture(scope="session")
def cache_names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders that nobody has made, each used once."""
    caches = tmp_path_factory.mktemp("caches")
    return (caches / str(number) for number in count())


@pytest.fixture(autouse=True)
def private_cache(cache_names: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test out of the user's own model cache.

    Not `tmp_path`: to name a new one, pytest reads the names of all others. Most tests need none.
    """
    monkeypatch.setenv("CRAFTSFL_CACHE", str(next(cache_names)))


@pytest.fixture(scope="session", autouse=True)
def commands_are_built_once() -> Iterator[None]:
    """A test's runner builds all of an app's commands at each call, which takes longer than most.
    So does the app where it is called as a program calls it.

    The same commands serve one call after another: click keeps what belongs to a call elsewhere.
    """
    import typer.testing

    with pytest.MonkeyPatch.context() as patch:
        build = functools.cache(typer.main.get_command)
        for where in ("testing._get_command", "main.get_command"):
            patch.setattr(f"typer.{where}", build)
        yield


@pytest.fixture
def study_values() -> dict[str, Any]:
    """A small study as plain values, to be changed by a test and validated as `Study`."""
    return {
        "name": "test-study",
        "rounds": 2,
        "base": {"digest": "sha256:" + "0" * 64, "source": "tiny"},
        "adapter": {"targets": ["attn2.to_q", "attn2.to_v"], "rank": 1, "alpha": 2},
        "training": {
            "sampling_rate": 0.5,
            "steps": 3,
            "tiles_per_patient": 2,
            "draws_per_tile": 2,
            "clipping_norm": 1.0,
            "noise_multiplier": 1.0,
            "optimizer": "sgd",
            "learning_rate": 0.1,
        },
        "privacy": {"delta": 1e-5},
        "aggregation": {"strategy": "fedavg"},
        "secure_aggregation": {"roster": "0" * 64, "bound": 1.0},
        "cohort": {"min_sites": 3, "round_deadline": 60, "reply_slot": 0.05},
        "sites": [
            {"name": "north", "declared_patients": 500},
            {"name": "harbour", "declared_patients": 800},
            {"name": "hillside", "declared_patients": 1200},
        ],
        "samples": {"prompts": ["glands"], "seeds": [1]},
    }

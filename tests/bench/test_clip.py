"""The benchmark compares like with like, and prints what it promises."""

from __future__ import annotations

import json

import pytest
import torch

from bench import clip, clip_steps
from bench.clip_memory import peak_bytes
from bench.clip_steps import CLIP_STEPS, TARGET_SETS, ClipSetting, ClipTask, plain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning"),
]

KEYS = ["targets", "batch", "engine", "time_ratio", "memory_ratio"]


@pytest.fixture(autouse=True)
def one_thread() -> object:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def moved(engine: str, setting: ClipSetting) -> torch.Tensor:
    """What one step adds to the adapter, flat."""
    task = ClipTask(setting)
    before = [parameter.detach().clone() for parameter in task.parameters]
    step = plain(task) if engine == "plain" else CLIP_STEPS[engine](task)
    step()
    pairs = zip(task.parameters, before, strict=True)
    return torch.cat([(now - then).detach().flatten() for now, then in pairs])


@pytest.mark.parametrize("precision", ["float32", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("targets", TARGET_SETS)
def test_every_engine_takes_the_same_step(
    targets: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_steps, "STEP_SIZE", 1e3)  # the step stands out of the rounding
    setting = ClipSetting("tiny", targets, batch=3, precision=precision)
    ours = moved("lora", setting)
    assert ours.norm() > 0
    for engine in CLIP_STEPS:
        # opacus adds 1e-6 to norms, and takes them in the lower precision under autocast.
        within = 1e-3 if precision == "float32" else 0.02
        assert (moved(engine, setting) - ours).norm() <= within * ours.norm(), engine
    assert (moved("plain", setting) - ours).norm() > 0.1 * ours.norm()


def test_rows_have_the_promised_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clip, "peak_bytes", lambda engine, *_: 3 if engine == "plain" else 6)
    clip.main(["--quick", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert [list(row)[:5] for row in answer["rows"]] == [KEYS] * len(CLIP_STEPS)
    assert [row["engine"] for row in answer["rows"]] == list(CLIP_STEPS)
    assert all(row["time_ratio"] > 0 and row["memory_ratio"] == 2 for row in answer["rows"])


@pytest.mark.slow
def test_memory_is_taken_in_a_process_of_its_own() -> None:
    setting = ClipSetting("tiny", "attn", batch=8)
    inputs = 2 * 8 * 4 * 8 * 8 * 4  # bytes: a step takes more than its own inputs
    assert peak_bytes("plain", setting, 1) > inputs

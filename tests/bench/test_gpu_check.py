"""The script for a GPU, tried without one: its rows, its exit codes, and what it takes for a no."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import gpu_check, gpu_parts, sensitivity
from bench.gpu_plan import GpuCase, GpuPlan
from bench.output import BenchRow

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_part_gives_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tmp_path / "new" / "gpu-check.json"
    code = gpu_check.main(["--cpu", "--quick", "--output", str(written)])
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert code == 0, printed.err
    assert json.loads(written.read_text()) == answer
    assert answer["bench"] == "gpu-check"
    assert {"torch", "cuda", "driver"} <= set(answer["versions"])
    checks = [row["check"] for row in answer["rows"]]
    assert checks == [
        *("agent", *["isolation"] * 2, *["sensitivity"] * 2),
        *("slots", *["clip"] * 2, "beside"),
    ]
    assert not [row for row in answer["rows"] if "error" in row]
    assert [row["tf32"] for row in answer["rows"] if "tf32" in row] == [False, True] * 2
    protected, control = answer["rows"][3:5]
    assert protected["ratio"] <= sensitivity.TOLERANCE
    assert ("note" in control) == (control["ratio"] <= sensitivity.LEAST_CONTROL)
    slots, beside = answer["rows"][5], answer["rows"][-1]
    assert (slots["equal"], slots["within_clip"], slots["adding"]) == (True, True, 2)
    assert min(beside["training_seconds"], beside["share_seconds"]) > 0
    assert beside["shares_beside"] > 0


ISOLATED: BenchRow = {"check": "isolation", "precision": "float32", "in_place": True}
PROTECTED: BenchRow = {"check": "sensitivity", "protected": True, "ratio": 1 + 1e-7}
AGENT: BenchRow = {"check": "agent", "usable": True}
SLOTS: BenchRow = {"check": "slots", "equal": True, "within_clip": True}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ISOLATED, None),
        (PROTECTED, None),
        (AGENT, None),
        (SLOTS, None),
        ({**ISOLATED, "in_place": False, "precision": "bf16"}, None),
        ({**PROTECTED, "protected": False, "ratio": 1.0}, None),  # a control that stays small
        ({**ISOLATED, "in_place": False}, "keep to themselves"),
        ({"check": "isolation", "precision": "float32", "error": "TimeUp"}, "keep to themselves"),
        ({**PROTECTED, "ratio": 1 + 2e-6}, "moves the sum"),
        ({**PROTECTED, "ratio": None}, "moves the sum"),
        ({**AGENT, "usable": False}, "confinement"),
        ({**SLOTS, "equal": False}, "whoever is there"),
        ({**SLOTS, "within_clip": False}, "whoever is there"),
        ({"check": "slots", "error": "TimeUp"}, "whoever is there"),
    ],
)
def test_what_was_not_seen_to_hold_is_named(row: BenchRow, words: str | None) -> None:
    found = gpu_check.unproven_claims([row])
    assert (found == []) if words is None else words in found[0]


def _fail() -> BenchRow:
    raise torch.OutOfMemoryError("no room")


def test_a_part_goes_on_after_an_error_and_stops_at_its_time() -> None:
    cases = [
        GpuCase("clip", {"batch": 1}, _fail),
        GpuCase("clip", {"batch": 2}, lambda: {"time_ratio": float("nan")}),
        GpuCase("clip", {"batch": 3}, partial(time.sleep, 30)),  # type: ignore[arg-type]
        GpuCase("clip", {"batch": 4}, partial(time.sleep, 30)),  # type: ignore[arg-type]
    ]
    begun = time.monotonic()
    failed, fine, late, later = gpu_check.look(cases, 0.5)
    assert time.monotonic() - begun < 10
    assert (failed["error"], failed["text"]) == ("OutOfMemoryError", "no room")
    assert (fine["batch"], fine["time_ratio"]) == (2, None)
    assert (late["error"], later["error"]) == ("TimeUp", "TimeUp")


def test_without_a_gpu_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "no CUDA device" in capsys.readouterr().err


def test_without_its_wheels_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "bench.gpu_parts", None)
    monkeypatch.delattr("bench.gpu_parts")
    assert gpu_check.main(["--cpu", "--quick"]) == 2
    assert "make gpu-wheels" in capsys.readouterr().err


def test_a_control_that_stays_small_is_said_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts, "_world", lambda *_: None)
    monkeypatch.setattr(
        sensitivity, "leave_one_out", lambda *_: sensitivity.Moved(np.array([1.0, 0.9]))
    )
    plan = GpuPlan("cpu", engines=("lora",), losses=("denoising",), scales=("3",))
    protected, control = [case.look() for case in gpu_parts.moved(plan)]
    assert "note" not in protected
    assert control["note"] == "control too small"


def test_the_device_has_to_work_in_the_agents_confinement() -> None:
    (case,) = gpu_parts.confined(GpuPlan("no-such-device"))
    row = gpu_check.tried(case, 60)
    assert row["error"] == "RuntimeError"
    assert gpu_check.unproven_claims([row])


def test_losses_in_the_lower_precision_are_tried_too() -> None:
    plan = GpuPlan("cpu", engines=("lora",), losses=("denoising",), precisions=("bf16",))
    case = next(gpu_parts.isolation(plan))
    assert gpu_check.tried(case, 60)["in_place"] in (True, False)


def test_tf32_is_as_before_afterwards() -> None:
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    with gpu_parts.tf32(not before):
        assert matmul.allow_tf32 is not before
    assert matmul.allow_tf32 is before


def test_all_seven_minutes_and_a_half_are_enough() -> None:
    assert sum(gpu_parts.PARTS.values()) <= 450  # of 480 seconds; the rest is for the imports


def test_every_wheel_has_its_version() -> None:
    names = (ROOT / "bench/gpu_wheels.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wanted = {name for name in names if not name.startswith("#")}
    assert wanted <= pinned
    assert not wanted & {"torch", "transformers"}

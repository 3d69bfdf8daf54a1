"""The frozen layers' precision is what is faster here, and float32 where anybody asks for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from client.training import precision
from client.training.precision import Precision, precision_for


def measured(monkeypatch: pytest.MonkeyPatch, full: float, mixed: float) -> None:
    """A processor with the instructions, on which passes take so many seconds."""
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: True)
    times = iter((full, mixed))

    def timed(*_: Any) -> Any:
        seconds = next(times)
        return lambda: seconds

    monkeypatch.setattr(precision, "_pass", timed)


@pytest.mark.parametrize(("mixed", "chosen"), [(0.7, "bfloat16"), (0.95, "float32")])
def test_what_is_measured_to_be_faster(
    tiny_pipeline: Any, monkeypatch: pytest.MonkeyPatch, mixed: float, chosen: Precision
) -> None:
    measured(monkeypatch, 1.0, mixed)
    assert precision_for("auto", tiny_pipeline.unet) == chosen


def test_asked_for_float32_nothing_is_measured(
    tiny_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, 1.0, 0.1)
    assert precision_for("float32", tiny_pipeline.unet) == "float32"
    assert precision_for("auto", tiny_pipeline.unet.to(torch.bfloat16)) == "float32"


def test_a_processor_without_the_instructions(
    tiny_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, 1.0, 0.1)
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    assert precision_for("auto", tiny_pipeline.unet) == "float32"


def test_real_passes_are_timed_and_leave_the_model_alone(tiny_pipeline: Any) -> None:
    chosen = precision_for("auto", tiny_pipeline.unet)
    assert chosen in ("float32", "bfloat16")
    assert not any("forward" in vars(module) for module in tiny_pipeline.unet.modules())

"""The frozen layers' precision is what is faster here, and float32 where anybody asks for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from client.training import precision
from client.training.precision import Precision, precision_for
from privacy.study.manifest import Study
from privacy.study.stage_two import StageTwo
from tests.model.losses.worlds import EFFECTS


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
    tiny_pipeline: Any,
    quiet_study: Study,
    monkeypatch: pytest.MonkeyPatch,
    mixed: float,
    chosen: Precision,
) -> None:
    measured(monkeypatch, 1.0, mixed)
    assert precision_for("auto", tiny_pipeline.unet, quiet_study) == chosen


def test_asked_for_float32_nothing_is_measured(
    tiny_pipeline: Any, quiet_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, 1.0, 0.1)
    assert precision_for("float32", tiny_pipeline.unet, quiet_study) == "float32"
    assert precision_for("auto", tiny_pipeline.unet.to(torch.bfloat16), quiet_study) == "float32"


def test_a_processor_without_the_instructions(
    tiny_pipeline: Any, quiet_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, 1.0, 0.1)
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: False)
    assert precision_for("auto", tiny_pipeline.unet, quiet_study) == "float32"


def test_a_loss_that_compares_effects(
    tiny_pipeline: Any, quiet_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, 1.0, 0.1)
    own = quiet_study.model_copy(update={"stage_two": StageTwo(effects=EFFECTS)})
    assert precision_for("auto", tiny_pipeline.unet, own) == "float32"


def test_real_passes_are_timed_and_leave_the_model_alone(
    tiny_pipeline: Any, quiet_study: Study
) -> None:
    chosen = precision_for("auto", tiny_pipeline.unet, quiet_study)
    assert chosen in ("float32", "bfloat16")
    assert not any("forward" in vars(module) for module in tiny_pipeline.unet.modules())

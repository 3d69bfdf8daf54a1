from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.adapters import layout_of, load_adapter, save_adapter
from model.origin import Origin, origin_of, read_origin
from privacy.accounting import epsilon
from privacy.errors import ModelError
from privacy.study.manifest import Adapter, Study
from privacy.study.terms import event_of

ADAPTER = Adapter(targets=("attn2.to_q",), rank=1, alpha=1.0)
ORIGIN = Origin("sha256:" + "1" * 64, "study", "2" * 64, "77", 12, 7.93, 1e-5)


def test_epsilon_is_that_of_the_whole_schedule_attempts_included(
    study_values: dict[str, Any],
) -> None:
    study_values["privacy"] = {"delta": 1e-5, "attempts": 3}
    study = Study.model_validate(study_values)
    origin = origin_of(study, 2**63 + 5)
    assert origin.epsilon == epsilon([event_of(study)] * 6, 1e-5)
    assert (origin.run, origin.study, origin.rounds) == (str(2**63 + 5), "test-study", 2)
    assert origin.study_digest == study.digest().hex()
    assert origin.base == study.base.digest


def test_without_noise_nothing_is_promised(study_values: dict[str, Any]) -> None:
    study_values["training"]["noise_multiplier"] = 0.0
    origin = origin_of(Study.model_validate(study_values), 1)
    assert origin.epsilon is None
    assert origin.privacy() == "none: the study adds no noise"
    assert read_origin(origin.to_json()) == origin


def test_what_it_was_trained_towards_is_said_or_not() -> None:
    assert "encoders" not in ORIGIN.to_json()
    said = replace(ORIGIN, encoders=("sha256:" + "3" * 64,))
    assert read_origin(said.to_json()) == said
    assert read_origin(ORIGIN.to_json()).encoders is None


def test_the_least_figures_that_mean_something_are_read() -> None:
    least = replace(ORIGIN, rounds=1, epsilon=0.0, delta=1e-300)
    assert read_origin(least.to_json()) == least


def test_it_travels_in_the_adapters_file(tmp_path: Path, tiny_base: Path) -> None:
    layout = layout_of(tiny_base, ADAPTER)
    vector = np.ones(layout.parameters, np.float32)
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, layout, vector, ADAPTER, ORIGIN)
    assert load_adapter(path).origin == ORIGIN
    save_adapter(path, layout, vector, ADAPTER)
    assert load_adapter(path).origin is None


def test_an_adapter_with_an_origin_loads_as_any_other(
    tmp_path: Path, tiny_base: Path, tiny_pipeline: Any
) -> None:
    layout = layout_of(tiny_base, ADAPTER)
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, layout, np.ones(layout.parameters, np.float32), ADAPTER, ORIGIN)
    tiny_pipeline.load_lora_weights(str(tmp_path), weight_name=path.name)
    found = {name: p for name, p in tiny_pipeline.unet.named_parameters() if "lora_" in name}
    assert len(found) == len(layout.entries)
    assert all(bool((value == 1).all()) for value in found.values())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        replace(ORIGIN, rounds=True).to_json(),
        replace(ORIGIN, rounds=1.5).to_json(),  # type: ignore[arg-type]
        replace(ORIGIN, base=5).to_json(),  # type: ignore[arg-type]
        replace(ORIGIN, epsilon="7").to_json(),  # type: ignore[arg-type]
        ORIGIN.to_json().replace("7.93", "Infinity"),
        ORIGIN.to_json().replace("7.93", "NaN"),
        ORIGIN.to_json()[:-1] + ', "more": 1}',
        ORIGIN.to_json()[:-1] + ', "encoders": "sha256:11"}',
        ORIGIN.to_json()[:-1] + ', "encoders": [1]}',
        replace(ORIGIN, rounds=0).to_json(),
        replace(ORIGIN, delta=0.0).to_json(),
        replace(ORIGIN, delta=1.0).to_json(),
        replace(ORIGIN, delta=True).to_json(),
        replace(ORIGIN, epsilon=-1e-9).to_json(),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ModelError):
        read_origin(text)

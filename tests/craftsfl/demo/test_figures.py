"""Reference figures are shown beside what they were measured for, and beside nothing else."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from craftsfl.demo.figures import (
    SHIPPED,
    DemoReferences,
    MeasuredArm,
    PublicFigure,
    differences,
    read_references,
    recovered_share,
    referred_study,
    setting_of,
)
from craftsfl.demo.learning import Compared, Learning, compared_with, learning_of
from craftsfl.demo.page.opening import reference_marks, reference_words
from craftsfl.demo.report import learning_lines, learning_values
from craftsfl.demo.tiles import SYNTHETIC_HOSPITALS
from craftsfl.demo.workspace import (
    DemoOptions,
    HospitalDraft,
    clear_folder,
    declare,
    write_workspace,
)
from model.cache import shipped_base
from model.digest import folder_digest
from privacy.errors import ConfigError
from privacy.study.manifest import Study
from server.events import QualityMeasured, RoundFinished

DIGEST = "sha256:" + "a" * 64
LOSS = PublicFigure(0.2, -0.02, -0.022, -0.018, 120)
OBEDIENCE = PublicFigure(0.02, 0.3, 0.25, 0.35, 48)


@pytest.fixture
def study() -> Study:
    return referred_study(DIGEST)


def references(study: Study) -> DemoReferences:
    arm = MeasuredArm(0.1, {"0.1": -0.1, "0.2": -0.09}, 510, LOSS, OBEDIENCE)
    alone = replace(arm, patients=160, loss=replace(LOSS, change=0.001, low=-0.001, high=0.003))
    return DemoReferences(
        command="craftsfl demo --references here.json",
        date="2026-11-27",
        seed=0,
        setting=setting_of(study),
        arms={"noise-off": arm, "alone": alone},
    )


def test_what_is_written_is_what_is_read(study: Study, tmp_path: Path) -> None:
    file = tmp_path / "references.json"
    references(study).write(file)
    assert read_references(file) == references(study)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"form": 2}', '{"form": 1, "arms": {"x": 3}}', '{"form": 1, "arms": {}}'],
)
def test_a_file_of_something_else_is_refused_with_the_command(text: str, tmp_path: Path) -> None:
    file = tmp_path / "references.json"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_references(file)
    assert "demo --references" in refused.value.hint
    assert compared_with(None, file).references is None  # type: ignore[arg-type]  # not reached


def test_a_missing_file_is_no_reason_to_fail(study: Study, tmp_path: Path) -> None:
    found = compared_with(study, tmp_path / "nothing.json")
    assert found.references is None
    assert "no reference figures" in found.why_not


def test_a_demo_as_the_references_were_measured_is_compared_with_them(tmp_path: Path) -> None:
    """Whoever signs, whatever the slot: those of a written demo are those of the measurement."""
    folder = tmp_path / "demo"
    clear_folder(folder)
    members = [
        HospitalDraft(one.name, folder / one.name, declare(one.patients))
        for one in SYNTHETIC_HOSPITALS.values()
    ]
    made = write_workspace(DemoOptions(folder), members, DIGEST, 12345, 15.0)
    made.runtime.rmdir()
    assert differences(references(referred_study(DIGEST)), made.study) == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("base", {"base": {"digest": "sha256:" + "b" * 64, "source": "tiny"}}),
        ("rounds", {"rounds": 3}),
        ("training", {"training": {"clipping_norm": 0.001}}),
        ("training", {"training": {"noise_multiplier": 9.0}}),
        ("aggregation", {"aggregation": {"learning_rate": 0.5}}),
        ("samples", {"samples": {"prompts": ["something else"]}}),
        ("patients", {"sites": [{"name": n, "declared_patients": 90} for n in "abc"]}),
    ],
)
def test_another_setting_is_named_and_not_compared(
    name: str, values: dict[str, Any], study: Study, tmp_path: Path
) -> None:
    file = tmp_path / "references.json"
    references(study).write(file)
    assert compared_with(study, file).references is not None
    own = study.model_dump(mode="json")
    for table, changed in values.items():
        own[table] = {**own[table], **changed} if isinstance(own[table], dict) else changed
    found = compared_with(Study.model_validate(own), file)
    assert found.references is None
    assert f"another {name}" in found.why_not
    assert "demo --references" in found.why_not
    learning = Learning(LOSS, OBEDIENCE, found)
    assert learning.recovered is None
    assert reference_marks(found, 3) == {}
    assert reference_words(found) == found.why_not == learning_lines(learning)[-1]
    assert learning_values(learning)["references"] is None


def test_the_runs_last_figures_are_what_it_learned(study: Study) -> None:
    last = study.rounds
    events = (
        QualityMeasured(0, "denoising", 0.2, 0.0, None, None, 120, 120),
        QualityMeasured(last, "denoising", 0.18, -0.02, -0.022, -0.018, 120, 120),
        QualityMeasured(last, "alignment", 0.32, 0.3, 0.25, None, 48, 48),
        RoundFinished(last, last, 1, 1, 0.1, 2.0, ("north",), True, "step"),
    )
    compared = Compared(references(study))
    found = learning_of(events, study, compared)
    assert found is not None
    assert (found.loss.change, found.loss.low, found.loss.patients) == (-0.02, -0.022, 120)
    assert found.loss.base == pytest.approx(0.2)
    assert found.recovered == pytest.approx(1.0)
    assert found.obedience is not None
    assert found.obedience.high == math.inf
    values = json.loads(json.dumps(learning_values(found), allow_nan=False))
    assert values["obedience"]["high"] is None
    assert values["obedience"]["before"] == pytest.approx(0.02)
    assert values["obedience"]["excludes_zero"] is True
    assert values["references"]["arms"]["alone"]["loss"]["excludes_zero"] is False
    assert learning_of(events[:1], study, compared) is None  # the last step was not measured
    text = "\n".join(learning_lines(found))
    for words in ("+0.020 before, +0.320 after", "one hospital alone", "So 100% of what"):
        assert words in text, words


@pytest.mark.parametrize(
    ("off", "share"),
    [
        (LOSS, 0.5),
        (replace(LOSS, base=0.4), 1.0),  # shares of each one's base
        (replace(LOSS, high=0.001), None),  # nothing to be learned was shown
        (None, None),
    ],
)
def test_the_recovered_share_needs_a_reference_that_learned(
    off: PublicFigure | None, share: float | None
) -> None:
    private = replace(LOSS, change=-0.01)
    assert recovered_share(private, off) == (None if share is None else pytest.approx(share))


def test_references_become_marks_behind_the_last_step(study: Study) -> None:
    marks = reference_marks(Compared(references(study)), 40)
    assert marks["denoising"]["no noise"].mean == pytest.approx(-0.1)
    assert marks["alignment"]["one alone"].mean == pytest.approx(0.3)
    assert "2026-11-27" in reference_words(Compared(references(study)))


@pytest.mark.skipif(not SHIPPED.exists(), reason="none are shipped: craftsfl demo --references")
def test_the_shipped_references_are_of_the_demo_as_it_is() -> None:
    """After a change of base, tiles, judge or constants: craftsfl demo --references FILE."""
    base = shipped_base()
    assert base is not None
    found = compared_with(referred_study(folder_digest(base)))
    assert found.references is not None, found.why_not
    assert set(found.references.arms) == {"noise-off", "central", "alone"}
    assert found.references.arms["noise-off"].loss.high < 0


def test_a_start_of_the_demo_loads_no_torch() -> None:
    """Its hospitals' trainers load it, on the same cores at the same moment."""
    code = "import sys, craftsfl.demo.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The benchmark of augmentation: its quick form is complete and resumes; the worlds are apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import augmentation
from bench.augmentation import AugmentedRun, SolvedRuns, augmentation_rows
from bench.augmentation_patients import labelled_patients, labelled_share, unseen_patients
from bench.augmentation_setting import (
    AUGMENTED_ARMS,
    LABELLED_SHARES,
    OF_TYPE,
    PLANTED,
    QUICK_AUGMENTED,
    RARE_CONTENTS,
)
from model.lab.augmentation.outcomes import Outcome


def solved(right: list[float]) -> dict[str, Outcome]:
    contents = sorted(OF_TYPE)
    found = np.resize(np.array(right), len(contents))
    return {"type": Outcome(found, np.array(contents), np.arange(len(contents)))}


def test_labelled_and_unseen_patients_are_others_and_a_share_has_every_content() -> None:
    labelled, tested = (make(QUICK_AUGMENTED, 0) for make in (labelled_patients, unseen_patients))
    pictures = {image.tobytes() for image in labelled.images}
    assert not pictures & {image.tobytes() for image in tested.images}
    few = labelled_share(labelled, 0.05, 0)
    assert set(few.contents) == set(range(len(PLANTED)))
    assert len(set(few.patients)) == len(PLANTED)
    assert (tested.nuclei >= 0).all()


def test_rare_types_are_rows_of_their_own_and_arms_are_compared() -> None:
    found = {
        AugmentedRun("type", 0.05, "real", 0): solved([0.0]),
        AugmentedRun("type", 0.05, "private", 0): solved([1.0]),
    }
    rows = augmentation_rows(found)
    assert {row["task"] for row in rows} == {"type", "type, rare types"}
    compared = [row for row in rows if "comparison" in row]
    assert [row["comparison"] for row in compared] == ["private-real"] * 2
    assert all(row["low"] == row["high"] == 1.0 for row in compared)
    assert len(RARE_CONTENTS) == 3


def test_a_line_cut_short_costs_its_run_only(tmp_path: Path) -> None:
    kept, run = SolvedRuns(tmp_path / "runs.jsonl"), AugmentedRun("type", 0.05, "real", 0)
    kept.add("setting", run, solved([1.0]))
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write('\n{"setting": "setting", "run": ["ty')
    kept.add("setting", AugmentedRun("type", 1.0, "real", 0), solved([0.0]))
    assert [own.share for own in kept.finished("setting")] == [0.05, 1.0]
    assert kept.finished("setting")[run]["type"].score() == 1.0
    assert not kept.finished("another")


@pytest.mark.slow
@pytest.mark.ci
def test_the_quick_bench_is_complete_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = torch.get_num_threads()
    asked = ["--quick", "--json", "--dir", str(tmp_path)]
    try:
        augmentation.main(asked)
        first = json.loads(capsys.readouterr().out)
        monkeypatch.setattr(augmentation, "load_base", None)  # nothing is left to draw or train
        augmentation.main(asked)
    finally:
        torch.set_num_threads(threads)
    assert json.loads(capsys.readouterr().out) == first
    rows = [row for row in first["rows"] if "arm" in row]
    assert {row["arm"] for row in rows if row["task"] == "type"} == set(AUGMENTED_ARMS)
    assert {row["share"] for row in rows if row["task"] == "caption to picture R@1"} == set(
        LABELLED_SHARES
    )
    tasks = {row["task"] for row in rows}
    assert {"morphology", "pretraining", "questions, all", "type, rare types"} <= tasks
    compared = {row["comparison"] for row in first["rows"] if "comparison" in row}
    assert "private-real" in compared

"""Rows of real tiles: who is a patient, what is left out, and that a figure stands either way."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.augmentation_real import REAL_TASK, real_rows, tiles_of_folders

SITES = Path(__file__).parents[2].parent / "shared" / "data" / "sites"


def folder(path: Path, labels: list[str]) -> Path:
    """Two patients of two tiles each for every label."""
    path.mkdir()
    noise = np.random.default_rng(3)
    with (path / "metadata.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file_name", "text", "patient_id", "organ", "diagnosis"))
        for number, label in enumerate(np.repeat(labels, 4)):
            pixels = noise.integers(0, 255, (64, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(path / f"{number}.png")
            table.writerow((f"{number}.png", "tissue", f"p{number // 2}", "colon", label))
    return path


def test_ids_of_two_hospitals_are_two_people_and_rare_classes_are_counted(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "a", ["x", "y"]), folder(tmp_path / "b", ["x", ""])
    own = tiles_of_folders([one, other], "diagnosis")
    assert own.captions == ("x, colon.", "y, colon.")
    assert len(set(own.patients.tolist())) == 6
    assert own.left_out == 0
    assert tiles_of_folders([other, folder(tmp_path / "c", ["x"])], "diagnosis").captions == (
        "x, colon.",
    )


@pytest.mark.slow
@pytest.mark.skipif(not SITES.exists(), reason="no real tiles beside the repository")
def test_real_tiles_have_a_row_of_the_judge_and_of_each_arm() -> None:
    own = tiles_of_folders([SITES / "site-1", SITES / "site-2"], "diagnosis")
    rows = list(real_rows(own, 2, [0]))
    assert {row["task"] for row in rows} == {REAL_TASK}
    (judge,) = [row for row in rows if "judge" in row]
    assert judge["passes"] == (judge["low"] > judge["guessing"])  # type: ignore[operator]
    assert {row["arm"] for row in rows if "arm" in row} >= {"real"}

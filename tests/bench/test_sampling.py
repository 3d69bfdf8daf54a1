"""The benchmark of sampling prints what it promises; what it compares draws the same pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench import sampling

KEYS = {
    "batch",
    "workers",
    "threads",
    "adapter",
    "layout",
    "images_per_second",
    "cpu_seconds",
    "most_grey_levels",
}


@pytest.mark.slow
def test_rows(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    sampling.main(["--json", "--quick", "--base", str(tiny_base)])
    answer = json.loads(capsys.readouterr().out)
    assert answer["bench"] == "sampling"
    rows = answer["rows"]
    assert all(set(row) == KEYS and row["images_per_second"] > 0 for row in rows)
    assert {(row["workers"], row["threads"]) for row in rows} == {(2, 1), (1, 2), (1, 1)}
    assert {row["layout"] for row in rows} == {"contiguous", "channels_last"}
    assert all(row["most_grey_levels"] <= 3 for row in rows if not row["adapter"])
    assert [row["adapter"] for row in rows].count(True) == 1
    assert torch.get_num_threads() == threads

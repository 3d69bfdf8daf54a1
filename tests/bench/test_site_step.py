"""The benchmark of a site's step: its keys, ratios and cosines."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bench import site_step
from model.cache import shipped_base

KEYS = ["rows", "heap", "precision", "milliseconds", "ratio", "worst_cosine"]


def test_rows_have_the_promised_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    turned = np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)
    made = iter([(0.004, first), (0.001, turned)])
    monkeypatch.setattr(site_step, "_apart", lambda *_: next(made))
    site_step.main(["--quick", "--json"])
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
    assert [list(row) for row in rows] == [KEYS, KEYS]
    assert [row["milliseconds"] for row in rows] == [4.0, 1.0]
    assert [row["ratio"] for row in rows] == [1.0, 0.25]
    assert rows[0]["worst_cosine"] == 1.0
    assert rows[1]["worst_cosine"] == pytest.approx(0.8)


@pytest.mark.slow
@pytest.mark.skipif(shipped_base() is None, reason="no tiny base here")
def test_mixed_precision_keeps_every_gradients_direction(
    capsys: pytest.CaptureFixture[str],
) -> None:
    site_step.main(["--quick", "--json"])
    full, mixed = json.loads(capsys.readouterr().out)["rows"]
    assert (full["precision"], mixed["precision"]) == ("float32", "bfloat16")
    assert mixed["worst_cosine"] > 0.999

"""The benchmark of exact noise prints what it promises, and notices noise of another width."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench import discrete_gaussian

SECONDS = {"table_s", "centres_s", "draw_s"}
KEYS = {
    *SECONDS,
    *("mode", "sites", "parameters", "numbers", "deviation", "centre_bits", "field_bits"),
    *("pack_s", "open_s", "bytes_per_parameter", "wrap_chance"),
    *("mean_z", "variance_z", "chi2_p"),
}


def test_rows_have_the_promised_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["discrete_gaussian", "--quick", "--json", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", argv)
    discrete_gaussian.main()
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["mode"] for row in rows] == ["local", "pooled"]
    for row in rows:
        assert set(row) == KEYS
        assert all(row[name] > 0 for name in SECONDS)
        assert abs(row["mean_z"]) < 7 and abs(row["variance_z"]) < 7 and row["chi2_p"] > 1e-9
    assert rows[1]["bytes_per_parameter"] == pytest.approx(8 / 7, rel=0.05)  # 9 bits
    assert rows[1]["wrap_chance"] < 1e-4


def test_other_noise_is_told_apart() -> None:
    centres = np.random.default_rng(1).integers(-(2**20), 2**20, 50_000)
    wider = discrete_gaussian._draw(centres, 9 << 16, 16)
    assert discrete_gaussian._quality(wider, centres, 8 << 16, 16)["chi2_p"] < 1e-9
    moved = discrete_gaussian._draw(centres, 8 << 16, 16) + 1
    assert discrete_gaussian._quality(moved, centres, 8 << 16, 16)["mean_z"] > 7

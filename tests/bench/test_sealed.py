"""The benchmark of sealed steps runs, and checks its own sums."""

from __future__ import annotations

import json
import sys

import pytest

from bench import sealed

COUNTS = ("n", "parameters", "bits", "lanes", "bytes_up_per_param", "bytes_down_per_param")
SECONDS = ("site_s", "noise_s", "prove_s", "server_s", "set_up_s", "steps_per_s", "memory_mb")


@pytest.fixture(scope="module")
def row():
    """The one row of `python -m bench.sealed --quick --json`."""
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr(sys, "argv", ["sealed", "--quick", "--json"])
        patch.setattr(sys.stdout, "write", lines.append)
        sealed.main()
    (made,) = json.loads("".join(lines))["rows"]
    return made


def test_a_row_says_what_it_measured(row):
    assert set(row) == {*COUNTS, *SECONDS}
    assert all(row[name] > 0 for name in row)
    assert row["noise_s"] < row["site_s"]


def test_the_bytes_are_those_of_the_messages(row):
    """Lanes and three of proof; label, nonce, signature, checks of two peers, and lengths."""
    up = 8 * (row["lanes"] + 3) + 32 + 4 + (2 + 2 * 8) + 32 + 3 * 2 + 64
    assert row["bytes_up_per_param"] == pytest.approx(up / row["parameters"])


def test_a_sum_that_is_not_the_sum_ends_the_benchmark(monkeypatch):
    cell = sealed.SealedCell(3, 500)
    cell.open()
    provide = cell._provide
    monkeypatch.setattr(cell, "_provide", lambda site, shares: provide(site, 0 * shares))
    with pytest.raises(RuntimeError):
        cell.step(1)

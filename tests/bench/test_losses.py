"""The benchmark of the losses: what it compares, and the keys that it prints."""

from __future__ import annotations

import json

import pytest

from bench import losses
from bench.loss_steps import BASES, COMPARED_LOSSES, LossSetting, make_loss_step
from model.cache import shipped_base

pytestmark = pytest.mark.skipif(shipped_base() is None, reason="no tiny base here")

KEYS = ["base", "batch", "engine", "loss", "time_ratio", "memory_ratio"]


def test_rows_have_the_promised_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(losses, "_peak_bytes", lambda loss, _: 2 if loss == "denoising" else 3)
    losses.main(["--quick", "--json"])
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert list(row)[: len(KEYS)] == KEYS
    assert (row["loss"], row["memory_ratio"]) == ("grounding", 1.5)
    assert row["time_ratio"] > 1


@pytest.mark.parametrize("name", ["denoising", *COMPARED_LOSSES])
def test_every_loss_takes_a_step(name: str) -> None:
    make_loss_step(name, LossSetting("tiny", 1))()


def test_every_base_has_its_block() -> None:
    assert {base.block for base in BASES.values()} == {"up_blocks.0", "up_blocks.1"}

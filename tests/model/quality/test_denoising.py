"""Held-out loss: paired, repeatable, and without a trace on the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from model.adapters import attach, initial_vector, read_vector, write_vector
from model.losses import NoiseSchedule
from model.quality.denoising import held_out_loss, loss_change
from privacy.study.manifest import Adapter
from tests.client.training.tiles import make_tiles

ADAPTER = Adapter(targets=("attn2.to_v",), rank=1, alpha=2)


def test_the_loss_is_paired_and_repeatable(tiny_pipeline: Any) -> None:
    tiles = make_tiles(3)
    layout = attach(tiny_pipeline.unet, ADAPTER)
    start, other = initial_vector(layout, b"s"), np.ones(layout.parameters, np.float32)
    losses = [
        held_out_loss(tiny_pipeline, ADAPTER, vector, tiles, seed=seed, draws=2)
        for vector, seed in ((start, 1), (start, 1), (start, 2), (other, 1))
    ]
    assert losses[0].shape == (len(tiles),)
    np.testing.assert_array_equal(losses[0], losses[1])
    assert (losses[0] != losses[2]).all()
    assert (losses[0] != losses[3]).all()


def test_the_model_is_left_as_it_was(tiny_pipeline: Any) -> None:
    layout = attach(tiny_pipeline.unet, ADAPTER)
    mine = np.full(layout.parameters, 0.25, np.float32)
    write_vector(tiny_pipeline.unet, layout, mine)
    start = initial_vector(layout, b"s")
    held_out_loss(tiny_pipeline, ADAPTER, start, make_tiles(2), seed=1, draws=1)
    np.testing.assert_array_equal(read_vector(tiny_pipeline.unet, layout), mine)


def test_many_draws_of_a_perfect_guess_are_near_zero(
    tiny_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that the untouched UNet hits exactly gives a loss of zero for every tile."""

    def said(schedule: NoiseSchedule, rows: Any) -> Any:
        return tiny_pipeline.unet(schedule.noised(rows), rows.timesteps, rows.text).sample

    monkeypatch.setattr(NoiseSchedule, "target", said)
    layout = attach(tiny_pipeline.unet, ADAPTER)
    start = initial_vector(layout, b"s")
    losses = held_out_loss(tiny_pipeline, ADAPTER, start, make_tiles(3), seed=1, draws=3)
    np.testing.assert_array_equal(losses, 0)


def test_the_interval_is_over_patients_not_tiles() -> None:
    """One patient with 100 tiles counts as one."""
    owners = np.array([0] * 100 + [1, 2])
    after = np.array([1.0] * 100 + [3.0, 5.0])
    change = loss_change(np.zeros(102), after, owners)
    assert change.mean == pytest.approx(3)
    assert change.patients == 3
    half = 4.302653 * 2 / np.sqrt(3)  # t(0.975, 2 degrees of freedom), standard deviation 2
    assert change.low == pytest.approx(3 - half)
    assert change.high == pytest.approx(3 + half)


def test_one_patient_gives_no_interval() -> None:
    change = loss_change(np.zeros(2), np.ones(2), np.array([7, 7]))
    assert (change.mean, change.low, change.high) == (1.0, -np.inf, np.inf)

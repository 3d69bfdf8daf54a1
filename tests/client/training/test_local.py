"""Local training: it learns, stops, and does what the public schedule says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from client.training import EncodedTiles, LocalTrainer, TrainingStopped
from client.training.local import make_optimizer
from model.adapters import initial_vector
from model.layout import Layout
from model.losses import Rows
from model.losses.draws import default_rows, draw_rows
from model.quality.denoising import held_out_loss, loss_change
from privacy.dpsgd.engine import BLANK, PhysicalBatch
from privacy.dpsgd.opacus_engine import OpacusEngine
from privacy.dpsgd.sampling import poisson_draw
from privacy.errors import ConfigError, ModelError
from privacy.study.manifest import Study
from privacy.study.terms import mechanism_of
from tests.client.training.tiles import SeededNoise, changed, make_tiles


def declaring(study: Study, patients: int) -> Study:
    values = study.model_dump(mode="json")
    values["sites"][0]["declared_patients"] = patients
    return Study.model_validate(values)


def train(trainer: LocalTrainer, adapter: np.ndarray | None = None) -> np.ndarray:
    return trainer.train(
        initial_vector(trainer.layout, b"s") if adapter is None else adapter,
        progress=lambda *_: None,
        should_stop=lambda: False,
    )


class Recorder(OpacusEngine):
    """The real engine, which writes down the rows of its physical batches."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.batches: list[list[int]] = []
        self.rows: list[int] = []

    def contributions(self, batches: Iterable[PhysicalBatch], clipping_norm: float) -> Any:
        def noted() -> Iterable[PhysicalBatch]:
            for batch in batches:
                self.batches.append(batch.patients.tolist())
                self.rows.append(batch.losses().numel())
                yield batch

        return super().contributions(noted(), clipping_norm)


@pytest.mark.parametrize(
    "frozen_a", [pytest.param(False, marks=(pytest.mark.slow, pytest.mark.ci)), True]
)
def test_without_noise_a_shift_is_learnt(
    tiny_pipeline: Any, quiet_study: Study, frozen_a: bool
) -> None:
    study = changed(quiet_study, steps=8, draws_per_tile=1, optimizer="adam", learning_rate=0.05)
    values = study.model_dump(mode="json")
    values["adapter"] = {"targets": ["attn2.to_out.0", "ff.net.2"], "rank": 2, "alpha": 2}
    values["adapter"]["frozen_a"] = frozen_a
    study = Study.model_validate(values)
    tiles = make_tiles(12, side=16)
    trainer = LocalTrainer(study, "north", tiny_pipeline, tiles, noise=SeededNoise())
    start = initial_vector(trainer.layout, study.digest())
    held_out = make_tiles(10, most=2, seed=9, side=16)
    losses = [
        held_out_loss(tiny_pipeline, study.adapter, vector, held_out, seed=1, draws=3)
        for vector in (start, start + train(trainer, start))
    ]
    change = loss_change(losses[0], losses[1], held_out.patient_of.numpy())
    assert change.high < 0
    assert change.patients == 10


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_update_does_not_depend_on_the_physical_batches(
    tiny_pipeline: Any, quiet_study: Study, optimizer: str
) -> None:
    study = changed(quiet_study, optimizer=optimizer, sampling_rate=0.6, noise_multiplier=0.5)
    deltas = []
    for rows in (1, 5, 64):
        trainer = LocalTrainer(
            study, "north", tiny_pipeline, make_tiles(8), noise=SeededNoise(4), physical_rows=rows
        )
        deltas.append(train(trainer))
    assert np.abs(deltas[0]).max() > 0
    np.testing.assert_allclose(deltas[0], deltas[2], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(deltas[1], deltas[2], rtol=1e-3, atol=1e-6)


def test_one_sgd_step_is_clipped_and_divided_by_the_declared_patients(
    tiny_pipeline: Any, quiet_study: Study
) -> None:
    """8 patients are there, 12 are declared: the denominator is 12, whoever is drawn."""
    study = changed(quiet_study, steps=1, clipping_norm=1e-4, learning_rate=1.0)
    delta = train(LocalTrainer(study, "north", tiny_pipeline, make_tiles(8), noise=SeededNoise()))
    assert np.linalg.norm(delta) <= 8 * 1e-4 / 12 * (1 + 1e-5)
    assert np.linalg.norm(delta) > 0.1 * 1e-4 / 12


def test_an_update_of_noise_alone_has_the_promised_size(
    tiny_pipeline: Any, quiet_study: Study
) -> None:
    """q = 1e-6: nobody is drawn, the step is released all the same."""
    settings = {"steps": 1, "noise_multiplier": 2.0, "clipping_norm": 0.5, "sampling_rate": 1e-6}
    study = changed(quiet_study, **settings, learning_rate=1e-6)
    trainer = LocalTrainer(study, "north", tiny_pipeline, make_tiles(4))
    zero = np.zeros(trainer.layout.parameters, np.float32)
    std = train(trainer, zero).std() / (1e-6 * 2.0 * 0.5 / (1e-6 * 12))
    assert std == pytest.approx(1, abs=6 / np.sqrt(2 * trainer.layout.parameters))


def test_two_rounds_never_share_timesteps_and_noise(tiny_pipeline: Any, quiet_study: Study) -> None:
    """Everybody is drawn, one tile each, no privacy noise: only the diffusion's draws differ."""
    trainer = LocalTrainer(quiet_study, "north", tiny_pipeline, make_tiles(3, most=1))
    assert (train(trainer) != train(trainer)).any()


def test_every_patient_has_k_times_m_rows(tiny_pipeline: Any, quiet_study: Study) -> None:
    engines: list[Recorder] = []

    def engine(*arguments: Any) -> Recorder:
        engines.append(Recorder(*arguments))
        return engines[-1]

    study = changed(quiet_study, steps=1, tiles_per_patient=2, draws_per_tile=3)
    tiles = make_tiles(8, most=4)
    train(LocalTrainer(study, "north", tiny_pipeline, tiles, engine=engine, physical_rows=10))
    places = np.array(engines[0].batches)
    assert places.shape == (8, 1)  # 6 rows each: two patients would be more than 10 rows
    assert sorted(places.ravel().tolist()) == list(range(8))
    assert engines[0].rows == [6] * 8


def test_poisson_sampling_follows_the_public_rate(tiny_pipeline: Any, quiet_study: Study) -> None:
    engines: list[Recorder] = []

    def engine(*arguments: Any) -> Recorder:
        engines.append(Recorder(*arguments))
        return engines[-1]

    study = changed(quiet_study, steps=1, sampling_rate=0.3, draws_per_tile=1, tiles_per_patient=1)
    study = declaring(study, 400)
    train(LocalTrainer(study, "north", tiny_pipeline, make_tiles(400, most=1), engine=engine))
    drawn = len(set().union(*engines[0].batches) - {BLANK})
    assert abs(drawn - 120) < 6 * np.sqrt(400 * 0.3 * 0.7)


def test_a_step_has_room_for_a_public_number_of_patients(
    tiny_pipeline: Any, quiet_study: Study
) -> None:
    """300 patients where 12 were declared: no step takes more than its room."""
    engines: list[Recorder] = []

    def engine(*arguments: Any) -> Recorder:
        engines.append(Recorder(*arguments))
        return engines[-1]

    study = changed(quiet_study, steps=2, sampling_rate=0.5, draws_per_tile=1, tiles_per_patient=1)
    train(LocalTrainer(study, "north", tiny_pipeline, make_tiles(300, most=1), engine=engine))
    room = mechanism_of(study).capacity(12)
    places = np.array(engines[0].batches)
    assert (places != BLANK).sum() == 2 * room
    first, second = (set(half[half != BLANK].tolist()) for half in np.split(places, 2))
    assert len(first) == len(second) == room
    assert first != second  # by an order of each step's own


def test_stopping_ends_within_one_physical_batch(tiny_pipeline: Any, quiet_study: Study) -> None:
    engines: list[Recorder] = []
    progress: list[tuple[int, int]] = []

    def engine(*arguments: Any) -> Recorder:
        engines.append(Recorder(*arguments))
        return engines[-1]

    trainer = LocalTrainer(
        quiet_study, "north", tiny_pipeline, make_tiles(8), engine=engine, physical_rows=4
    )
    with pytest.raises(TrainingStopped):
        trainer.train(
            initial_vector(trainer.layout, b"s"),
            progress=lambda done, total: progress.append((done, total)),
            should_stop=lambda: bool(engines) and len(engines[0].batches) >= 2,
        )
    assert len(engines[0].batches) == 2
    assert progress == []
    assert train(trainer).shape == (trainer.layout.parameters,)  # and can train again


def test_stopping_works_where_nobody_is_drawn(tiny_pipeline: Any, quiet_study: Study) -> None:
    study = changed(quiet_study, sampling_rate=1e-6)
    trainer = LocalTrainer(study, "north", tiny_pipeline, make_tiles(2))
    with pytest.raises(TrainingStopped):
        trainer.train(
            initial_vector(trainer.layout, b"s"),
            progress=lambda *_: None,
            should_stop=lambda: True,
        )


def test_progress_counts_public_steps_only(tiny_pipeline: Any, quiet_study: Study) -> None:
    seen: list[tuple[int, int]] = []
    trainer = LocalTrainer(quiet_study, "north", tiny_pipeline, make_tiles(2), physical_rows=1)
    trainer.train(
        initial_vector(trainer.layout, b"s"),
        progress=lambda done, total: seen.append((done, total)),
        should_stop=lambda: False,
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("patients", [1, 2])
def test_few_patients_with_one_tile_train(
    tiny_pipeline: Any, quiet_study: Study, patients: int
) -> None:
    study = changed(quiet_study, noise_multiplier=1.0, sampling_rate=0.5, steps=4)
    trainer = LocalTrainer(study, "north", tiny_pipeline, make_tiles(patients, most=1))
    delta = train(trainer)
    assert delta.shape == (trainer.layout.parameters,)
    assert delta.dtype == np.float32
    assert np.isfinite(delta).all()


def test_the_base_is_left_alone(tiny_pipeline: Any, quiet_study: Study) -> None:
    unet = tiny_pipeline.unet
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    train(LocalTrainer(quiet_study, "north", tiny_pipeline, make_tiles(4)))
    after = unet.state_dict()
    for name, value in before.items():
        kept = after.get(name, after.get(name.replace(".weight", ".base_layer.weight")))
        kept = after[name.replace(".bias", ".base_layer.bias")] if kept is None else kept
        assert torch.equal(kept, value)


def test_an_adapter_of_another_layout_is_refused(tiny_pipeline: Any, quiet_study: Study) -> None:
    trainer = LocalTrainer(quiet_study, "north", tiny_pipeline, make_tiles(2))
    assert isinstance(trainer.layout, Layout)
    with pytest.raises(ModelError, match="expected"):
        train(trainer, np.zeros(trainer.layout.parameters + 1, np.float32))


def test_steps_that_diverge_are_an_error_and_no_update(
    tiny_pipeline: Any, quiet_study: Study
) -> None:
    study = changed(quiet_study, learning_rate=1e38, noise_multiplier=100.0, clipping_norm=1e6)
    trainer = LocalTrainer(study, "north", tiny_pipeline, make_tiles(2))
    with pytest.raises(ModelError, match="not finite"):
        train(trainer)


def test_a_stranger_cannot_train(tiny_pipeline: Any, quiet_study: Study) -> None:
    with pytest.raises(ConfigError, match="stranger"):
        LocalTrainer(quiet_study, "stranger", tiny_pipeline, make_tiles(2))


@pytest.mark.parametrize(
    ("side", "device", "rows"),
    [
        (16, "cpu", 48),
        (32, "cpu", 16),
        (16, "cuda", 128),
        (64, "cpu", 8),
        (64, "cuda", 8),
        (512, "cpu", 1),
    ],
)
def test_physical_batches_fit_latents_and_device(side: int, device: str, rows: int) -> None:
    tiles = dataclasses.replace(make_tiles(1), latents=torch.zeros(1, 4, side, side))
    assert default_rows(tiles, torch.device(device)) == rows


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_optimisers_start_afresh(quiet_study: Study, name: str) -> None:
    study = changed(quiet_study, optimizer=name, learning_rate=0.1)
    flat = torch.nn.Parameter(torch.zeros(2))
    optimizer = make_optimizer(study.training, flat)
    flat.grad = torch.tensor([2.0, -4.0])
    optimizer.step()
    wanted = [-0.2, 0.4] if name == "sgd" else [-0.1, 0.1]  # Adam's first step is eta sign(g)
    np.testing.assert_allclose(flat.detach().numpy(), wanted, rtol=1e-5)


def test_who_withdraws_during_a_round_is_in_no_later_step(
    tiny_pipeline: Any, quiet_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = changed(quiet_study, steps=3, draws_per_tile=1, tiles_per_patient=2)
    trainer = LocalTrainer(study, "north", tiny_pipeline, make_tiles(5, most=2))
    seen: list[set[int]] = []

    def spying(*arguments: Any) -> np.ndarray:
        seen.append(set())
        return poisson_draw(*arguments)

    def noting(tiles: EncodedTiles, chosen: list[np.ndarray], *rest: Any) -> Rows:
        seen[-1] |= set(tiles.patient_of[np.concatenate(chosen)].tolist())
        if len(seen) == 1:
            trainer.withdraw({1, 3})  # in the middle of the first step
        return draw_rows(tiles, chosen, *rest)

    monkeypatch.setattr("privacy.mechanisms.local.step.poisson_draw", spying)
    monkeypatch.setattr("client.training.batches.draw_rows", noting)
    assert np.isfinite(train(trainer)).all()
    assert seen == [{0, 1, 2, 3, 4}, {0, 2, 4}, {0, 2, 4}]
    assert set(trainer._resident.tiles.patient_of.tolist()) == {0, 2, 4}


def test_where_everybody_withdrew_noise_goes_on(tiny_pipeline: Any, quiet_study: Study) -> None:
    study = changed(quiet_study, noise_multiplier=1.0, sampling_rate=0.5)
    trainer = LocalTrainer(study, "north", tiny_pipeline, make_tiles(4))
    trainer.withdraw(range(4))
    delta = train(trainer)
    assert np.isfinite(delta).all()
    assert (delta != 0).mean() > 0.9
    LocalTrainer(study, "north", tiny_pipeline, make_tiles(4).without(range(4)))

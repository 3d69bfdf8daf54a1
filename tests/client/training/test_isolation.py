"""The trainer keeps patients apart: on the device, in the draw, in their places."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from client.training import EncodedTiles, LocalTrainer
from client.training.precision import Precision
from client.training.proof import large_vector
from model import mixed_precision
from model.adapters import initial_vector, read_vector
from privacy.dpsgd.assignment import Assign, fixed, packed
from privacy.dpsgd.engine import PatientGradients, PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.errors import ModelError
from privacy.study.manifest import Study
from tests.client.training.tiles import SeededNoise, changed, make_tiles

PATIENTS = 7


class Repeated(SeededNoise):
    """The same secrets for every step."""

    def uniform(self, n: int) -> Any:
        return np.random.default_rng(5).random(n)


class Watched(LoraEngine):
    """The real engine; writes down each patient's gradient and the sum."""

    gradients_of: dict[int, bytes]
    total: torch.Tensor

    def gradients(self, batch: PhysicalBatch) -> PatientGradients:
        found = super().gradients(batch)
        for place, patient in enumerate(batch.patients.tolist()):
            self.gradients_of[patient] = found.values[place].numpy().tobytes()
        return found

    def contributions(self, batches: Any, clipping_norm: float) -> Any:
        self.gradients_of = {}
        self.total = torch.zeros(self.size, dtype=torch.float64)
        for found in super().contributions(batches, clipping_norm):
            self.total += found.sum(dim=0).double() * (clipping_norm * 2.0**-30)
            yield found


@pytest.fixture
def study(quiet_study: Study) -> Study:
    settings = {"steps": 1, "clipping_norm": 1e-3, "tiles_per_patient": 2, "draws_per_tile": 1}
    values = changed(quiet_study, **settings).model_dump(mode="json")
    values["adapter"]["targets"] = ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"]
    return Study.model_validate(values)


def one_step(
    pipeline: Any,
    study: Study,
    assign: Assign,
    *,
    without: set[int] = frozenset(),
    precision: Precision = "float32",
    tiles: EncodedTiles | None = None,
) -> Watched:
    engines: list[Watched] = []

    def engine(*arguments: Any) -> Watched:
        engines.append(Watched(*arguments))
        return engines[-1]

    trainer = LocalTrainer(
        study,
        "north",
        pipeline,
        (tiles or make_tiles(PATIENTS)).without(without),
        noise=Repeated(),
        physical_rows=6,  # three places of two rows
        engine=engine,
        assign=assign,
        precision=precision,
    )
    vector = large_vector(trainer.layout, sharpened=2.0)
    trainer.train(vector, progress=lambda *_: None, should_stop=lambda: False)
    return engines[0]


@pytest.mark.parametrize("assign", [packed, fixed])
@pytest.mark.parametrize("rate", [1.0, 0.6])
def test_leaving_one_out_moves_the_sum_by_the_clip_and_nobody_else(
    tiny_pipeline: Any, study: Study, assign: Assign, rate: float
) -> None:
    """With a hostile adapter, the same secrets, through the whole step."""
    study = changed(study, sampling_rate=rate)
    everyone = one_step(tiny_pipeline, study, assign)
    drawn = set(everyone.gradients_of) - {-1}
    assert drawn == set(range(PATIENTS)) if rate == 1 else drawn
    for gone in range(PATIENTS):
        rest = one_step(tiny_pipeline, study, assign, without={gone})
        moved = float((everyone.total - rest.total).norm())
        assert moved <= 1e-3 * (1 + 1e-6)
        if gone in drawn:
            assert moved >= 1e-3 * (1 - 1e-6)
        others = drawn - {gone}
        assert set(rest.gradients_of) - {-1} == others
        assert all(rest.gradients_of[n] == everyone.gradients_of[n] for n in others)


@pytest.mark.parametrize(
    "filled",
    [1e30, *(pytest.param(one, marks=pytest.mark.slow) for one in (np.nan, 3e38, 1e-40, -0.0))],
)
def test_in_bfloat16_a_patient_moves_the_sum_by_the_clip_and_nobody_else(
    tiny_pipeline: Any, study: Study, filled: float
) -> None:
    """With a hostile adapter, and latents of a patient's choice instead of honest ones."""
    tiles, crafted = make_tiles(PATIENTS), make_tiles(PATIENTS)
    crafted.latents[tiles.patient_of == 3] = filled
    step = partial(one_step, tiny_pipeline, study, packed, precision="bfloat16")
    honest, other = step(tiles=tiles), step(tiles=crafted)
    others = set(range(PATIENTS)) - {3}
    assert all(other.gradients_of[n] == honest.gradients_of[n] for n in others)
    moved = float((honest.total - other.total).norm())
    if abs(filled) > 1:  # it is out, by select
        assert moved == pytest.approx(1e-3, rel=1e-6)
    assert moved <= (1 if abs(filled) > 1 else 2) * 1e-3 * (1 + 1e-12)


def test_this_device_is_sound(tiny_pipeline: Any, study: Study) -> None:
    trainer = LocalTrainer(study, "north", tiny_pipeline, make_tiles(4), physical_rows=8)
    before = read_vector(tiny_pipeline.unet, trainer.layout)
    trainer.prove_isolation()
    assert trainer.assign is packed
    after = read_vector(tiny_pipeline.unet, trainer.layout)
    assert np.array_equal(before, after)


@pytest.fixture
def touching() -> Iterator[type[LoraEngine]]:
    """A device on which a row's last bits follow the largest number in the batch."""

    class Touching(LoraEngine):
        def gradients(self, batch: PhysicalBatch) -> PatientGradients:
            found = super().gradients(batch)
            scale = 1 + 2.0**-22 * float(found.values.nan_to_num().abs().max() > 1e3)
            return PatientGradients(found.values * scale + 0 * found.values.sum(), found.usable)

    yield Touching


def test_a_device_on_which_rows_touch_is_refused(
    tiny_pipeline: Any, study: Study, touching: type[LoraEngine]
) -> None:
    trainer = LocalTrainer(
        study, "north", tiny_pipeline, make_tiles(4), physical_rows=8, engine=touching
    )
    with pytest.raises(ModelError, match=r'agent.device = "cpu"'):
        trainer.prove_isolation()


def test_rows_that_touch_in_bfloat16_alone_are_refused_there(
    tiny_pipeline: Any, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial is made in the precision in which the site trains."""
    product = mixed_precision._linear_half

    def touching(x: torch.Tensor, *weights: torch.Tensor | None) -> torch.Tensor:
        return product(x, *weights) + 2.0**-10 * x.abs().amax()

    monkeypatch.setattr(mixed_precision, "_linear_half", touching)
    in_full, in_part = (
        LocalTrainer(
            study, "north", tiny_pipeline, make_tiles(4), physical_rows=8, precision=precision
        )
        for precision in ("float32", "bfloat16")
    )
    in_full.prove_isolation()
    with pytest.raises(ModelError, match=r'agent.precision = "float32"'):
        in_part.prove_isolation()


def test_a_trial_that_can_tell_nothing_is_no_proof(tiny_pipeline: Any, study: Study) -> None:
    class Nothing(LoraEngine):
        def gradients(self, batch: PhysicalBatch) -> PatientGradients:
            found = super().gradients(batch)
            return PatientGradients(torch.full_like(found.values, torch.nan), found.usable)

    trainer = LocalTrainer(
        study, "north", tiny_pipeline, make_tiles(4), physical_rows=8, engine=Nothing
    )
    with pytest.raises(ModelError, match="hardly any gradient of made-up rows is finite"):
        trainer.prove_isolation()


def test_a_device_without_a_fixed_order_is_refused_in_words(
    tiny_pipeline: Any, study: Study
) -> None:
    class Varying(LoraEngine):
        def gradients(self, batch: PhysicalBatch) -> PatientGradients:
            raise RuntimeError("scatter_add_cuda does not have a deterministic implementation")

    trainer = LocalTrainer(
        study, "north", tiny_pipeline, make_tiles(4), physical_rows=8, engine=Varying
    )
    with pytest.raises(ModelError, match="one fixed order: scatter_add"):
        trainer.prove_isolation()


def test_where_places_matter_everybody_keeps_one(tiny_pipeline: Any, study: Study) -> None:
    class ByPlace(LoraEngine):
        def gradients(self, batch: PhysicalBatch) -> PatientGradients:
            found = super().gradients(batch)
            bits = 1 + torch.arange(len(found.values))[:, None] * 2.0**-22
            return PatientGradients(found.values * bits, found.usable)

    trainer = LocalTrainer(
        study, "north", tiny_pipeline, make_tiles(4), physical_rows=8, engine=ByPlace
    )
    trainer.prove_isolation()
    assert trainer.assign is fixed


def test_all_batches_have_one_shape_that_follows_from_public_numbers(
    tiny_pipeline: Any, study: Study
) -> None:
    shapes = set()

    class Noted(LoraEngine):
        def gradients(self, batch: PhysicalBatch) -> PatientGradients:
            shapes.add((batch.shape, batch.losses().shape))
            return super().gradients(batch)

    for patients in (1, 2, 5, 12):
        for rate in (0.3, 1.0):
            trainer = LocalTrainer(
                changed(study, sampling_rate=rate),
                "north",
                tiny_pipeline,
                make_tiles(patients, most=3, seed=patients),
                physical_rows=16,
                engine=Noted,
            )
            start = initial_vector(trainer.layout, b"s")
            trainer.train(start, progress=lambda *_: None, should_stop=lambda: False)
    assert shapes == {((8, 2), (16,))}  # two rows for each of as many as go through at once


def test_a_site_without_tiles_can_be_tried(tiny_pipeline: Any, study: Study) -> None:
    tiles = make_tiles(2).without({0, 1})
    trainer = LocalTrainer(study, "north", tiny_pipeline, tiles, physical_rows=4)
    trainer.prove_isolation()
    reference = torch.zeros(2, 6).half()
    shown = dataclasses.replace(make_tiles(2, most=1), reference=reference)
    LocalTrainer(study, "north", tiny_pipeline, shown, physical_rows=4).prove_isolation()

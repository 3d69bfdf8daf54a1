"""Everybody in every step, each in a place of their own: the sum, bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from client.training import EncodedTiles, LocalTrainer, TrainingStopped
from client.training import step_sum as step_sums
from client.training.local import places_of
from client.training.proof import large_vector
from model.adapters import initial_vector
from privacy.dpsgd.engine import BLANK, PatientGradients, PhysicalBatch
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.errors import AccountingError, ModelError
from privacy.study.manifest import Study
from tests.client.training.tiles import SeededNoise, changed, make_tiles
from tests.pooled_study import pooled_values

SLOTS = 7  # declared
UNIT = 2**CONTRIBUTION_BITS


class Repeated(SeededNoise):
    """The same secret of all draws for every trainer."""

    def uniform(self, n: int) -> Any:
        return np.random.default_rng(5).random(n)


class Watched(LoraEngine):
    """The real engine, which writes down what goes through the network and what everybody adds."""

    shapes: ClassVar[list[tuple[int, int]]] = []
    standing: ClassVar[list[list[int]]] = []
    parts: ClassVar[dict[int, bytes]] = {}

    def gradients(self, batch: PhysicalBatch) -> PatientGradients:
        self.shapes.append(batch.shape)
        self.standing.append(batch.patients.tolist())
        return super().gradients(batch)

    def contributions(self, *arguments: Any) -> Iterator[torch.Tensor]:
        for parts in super().contributions(*arguments):
            for patient, part in zip(self.standing[-1], parts, strict=True):
                self.parts[patient] = part.numpy().tobytes()
            yield parts


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watched, "shapes", [])
    monkeypatch.setattr(Watched, "standing", [])
    monkeypatch.setattr(Watched, "parts", {})


@pytest.fixture
def study(quiet_study: Study) -> Study:
    settings = {"clipping_norm": 1e-3, "tiles_per_patient": 2, "draws_per_tile": 1}
    values = changed(quiet_study, **settings).model_dump(mode="json")
    values["adapter"]["targets"] = ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"]
    values["sites"][0]["declared_patients"] = SLOTS
    return Study.model_validate(values)


def make_trainer(pipeline: Any, study: Study, tiles: EncodedTiles) -> LocalTrainer:
    """Three places of two rows in a batch: three batches, of which the last has two blanks."""
    return LocalTrainer(
        study, "north", pipeline, tiles, noise=Repeated(), physical_rows=6, engine=Watched
    )


def hostile(trainer: LocalTrainer) -> np.ndarray:
    return large_vector(trainer.layout, sharpened=2.0)


def summed(trainer: LocalTrainer, adapter: np.ndarray | None = None, step: int = 0) -> np.ndarray:
    return trainer.clipped_sum(
        hostile(trainer) if adapter is None else adapter,
        step,
        progress=lambda *_: None,
        should_stop=lambda: False,
    )


def part_of(patient: int) -> np.ndarray:
    return np.frombuffer(Watched.parts[patient], np.int32).astype(np.int64)


def test_it_is_the_integer_sum_of_what_everybody_adds(tiny_pipeline: Any, study: Study) -> None:
    trainer = make_trainer(tiny_pipeline, study, make_tiles(SLOTS))
    total = summed(trainer)
    assert total.dtype == np.int64
    assert total.shape == (trainer.layout.parameters,)
    parts = [part_of(patient) for patient in range(SLOTS)]
    assert np.array_equal(total, sum(parts))
    for part in parts:
        squared = sum(int(number) ** 2 for number in part)
        assert 0.999 * UNIT**2 < squared <= UNIT**2  # each of them is clipped


def test_a_small_gradient_is_not_lengthened(tiny_pipeline: Any, study: Study) -> None:
    """The same gradient at another C: the same vector, in other units."""
    sums = []
    for clip in (1e3, 4e3):
        trainer = make_trainer(tiny_pipeline, changed(study, clipping_norm=clip), make_tiles(SLOTS))
        sums.append(summed(trainer, initial_vector(trainer.layout, b"s")))
    assert np.abs(sums[0]).max() > 0
    np.testing.assert_allclose(sums[0], 4 * sums[1], atol=4 * SLOTS)


@pytest.mark.parametrize("gone", [{0}, {SLOTS - 1}, {1, 2}])
def test_with_some_zeroed_nobody_elses_part_changes_by_a_bit(
    tiny_pipeline: Any, study: Study, gone: set[int]
) -> None:
    """With a hostile adapter, the same secrets, through the whole step."""
    everyone = summed(make_trainer(tiny_pipeline, study, make_tiles(SLOTS)))
    wanted = dict(Watched.parts)
    rest = summed(make_trainer(tiny_pipeline, study, make_tiles(SLOTS).without(gone)))
    for patient in range(SLOTS):
        if patient not in gone:
            assert Watched.parts[patient] == wanted[patient]
    moved = [int(number) for number in everyone - rest]
    assert 0 < sum(number**2 for number in moved) <= (len(gone) * UNIT) ** 2


@pytest.mark.parametrize("there", [set(), {0, 6}, set(range(SLOTS))])
def test_shapes_do_not_depend_on_who_is_there(
    tiny_pipeline: Any, study: Study, there: set[int]
) -> None:
    seen: list[tuple[int, int]] = []
    tiles = make_tiles(SLOTS).without(set(range(SLOTS)) - there)
    trainer = make_trainer(tiny_pipeline, study, tiles)
    total = trainer.clipped_sum(
        hostile(trainer),
        0,
        progress=lambda done, of: seen.append((done, of)),
        should_stop=lambda: False,
    )
    assert Watched.shapes == [(3, 2)] * 3
    assert seen == [(1, 3), (2, 3), (3, 3)]
    names = np.array(Watched.standing).ravel()
    assert set(names[names != BLANK].tolist()) == there
    assert all(names[patient] == patient for patient in there)
    assert total.any() == bool(there)


@pytest.mark.parametrize("value", [np.nan, 1e38])
def test_rows_that_go_wrong_are_zeros_and_spoil_nobody(
    tiny_pipeline: Any, study: Study, value: float
) -> None:
    tiles = make_tiles(SLOTS)
    rest = summed(make_trainer(tiny_pipeline, study, tiles.without({3})))
    latents = tiles.latents.clone()
    latents[tiles.patient_of == 3] = value
    spoiled = make_trainer(tiny_pipeline, study, dataclasses.replace(tiles, latents=latents))
    assert np.array_equal(summed(spoiled), rest)
    assert not part_of(3).any()
    assert len(Watched.shapes) == 6


def test_no_more_take_part_than_are_declared(tiny_pipeline: Any, study: Study) -> None:
    """12 are enrolled, 7 are declared: the places are those of the first 7, whoever withdraws."""
    everyone = make_tiles(12)
    first = summed(make_trainer(tiny_pipeline, study, make_tiles(12).without(range(SLOTS, 12))))
    assert np.array_equal(summed(make_trainer(tiny_pipeline, study, everyone)), first)
    summed(make_trainer(tiny_pipeline, study, make_tiles(12).without({0, 1})))
    names = set(np.array(Watched.standing[-3:]).ravel().tolist())
    assert names - {BLANK} == set(range(2, SLOTS))


def asked_again(trainer: LocalTrainer, **other: Any) -> tuple[np.ndarray, int]:
    """The sum, and how many batches it took."""
    before = len(Watched.shapes)
    return summed(trainer, **other), len(Watched.shapes) - before


def test_another_attempt_at_a_step_gets_the_same_integers_without_training(
    tiny_pipeline: Any, study: Study
) -> None:
    trainer = make_trainer(tiny_pipeline, study, make_tiles(SLOTS))
    first = summed(trainer)
    kept = first.copy()
    first[:] = 0  # the caller's own
    again, batches = asked_again(trainer)
    assert np.array_equal(again, kept)
    assert batches == 0


def test_another_step_or_adapter_draws_anew(tiny_pipeline: Any, study: Study) -> None:
    trainer = make_trainer(tiny_pipeline, study, make_tiles(SLOTS))
    first = summed(trainer)
    moved = hostile(trainer)
    moved[3] = np.nextafter(moved[3], np.float32(np.inf), dtype=np.float32)
    for other in ({"step": 1}, {"adapter": moved}):
        total, batches = asked_again(trainer, **other)
        assert batches == 3
        assert not np.array_equal(total, first)
    total, batches = asked_again(trainer)  # it is no longer kept, but it is the same
    assert batches == 3
    assert np.array_equal(total, first)


@pytest.mark.parametrize("most", [step_sums.MOST_KEPT, 0])
def test_who_withdraws_is_out_of_another_attempt_too(
    tiny_pipeline: Any, study: Study, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too large to keep everybody's part, it is worked out anew, from the same draws."""
    monkeypatch.setattr(step_sums, "MOST_KEPT", most)
    trainer = make_trainer(tiny_pipeline, study, make_tiles(SLOTS))
    first = summed(trainer)
    parts = dict(Watched.parts)
    trainer.withdraw({2, 5})
    again, batches = asked_again(trainer)
    assert batches == (0 if most else 3)
    assert np.array_equal(first - again, sum(np.frombuffer(parts[n], np.int32) for n in (2, 5)))
    trainer.withdraw({6})
    again, batches = asked_again(trainer, step=1)
    assert Watched.standing[-3:] == [[0, 1, BLANK], [3, 4, BLANK], [BLANK] * 3]
    assert batches == 3


def test_what_is_kept_of_who_withdraws_is_forgotten(tiny_pipeline: Any, study: Study) -> None:
    trainer = make_trainer(tiny_pipeline, study, make_tiles(SLOTS))
    summed(trainer)
    assert trainer._kept is not None
    parts = trainer._kept._parts
    assert parts is not None
    assert parts.shape[0] == SLOTS
    assert parts[4].any()
    trainer.withdraw({4, 11})
    assert not parts[4].any()
    assert parts[3].any()


@pytest.mark.parametrize("most", [step_sums.MOST_KEPT, 0])
def test_who_withdraws_during_a_step_is_out_of_the_next_attempt(
    tiny_pipeline: Any, study: Study, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_sums, "MOST_KEPT", most)
    trainer = make_trainer(tiny_pipeline, study, make_tiles(SLOTS))

    def leave(gone: Collection[int]) -> np.ndarray:
        return trainer.clipped_sum(
            hostile(trainer),
            0,
            progress=lambda done, _: trainer.withdraw(gone) if done == 2 else None,
            should_stop=lambda: False,
        )

    leave({1})
    wanted = sum(part_of(patient) for patient in range(SLOTS) if patient != 1)
    assert np.array_equal(summed(trainer), wanted)


def test_the_secret_of_the_draws_is_each_trainers_own(tiny_pipeline: Any, study: Study) -> None:
    one, other = (
        LocalTrainer(study, "north", tiny_pipeline, make_tiles(SLOTS), physical_rows=6)
        for _ in range(2)
    )
    assert not np.array_equal(summed(one), summed(other))


def stopped_after(trainer: LocalTrainer, batches: int) -> None:
    before = len(Watched.shapes)
    with pytest.raises(TrainingStopped):
        trainer.clipped_sum(
            hostile(trainer),
            0,
            progress=lambda *_: None,
            should_stop=lambda: len(Watched.shapes) >= before + batches,
        )
    assert len(Watched.shapes) == before + batches


def test_it_stops_before_the_next_batch_and_another_attempt_goes_on_there(
    tiny_pipeline: Any, study: Study
) -> None:
    whole = summed(make_trainer(tiny_pipeline, study, make_tiles(SLOTS)))
    trainer = make_trainer(tiny_pipeline, study, make_tiles(SLOTS))
    stopped_after(trainer, 1)
    stopped_after(trainer, 1)
    total, batches = asked_again(trainer)
    assert batches == 1
    assert np.array_equal(total, whole)
    stopped_after(make_trainer(tiny_pipeline, study, make_tiles(SLOTS)), 2)
    assert asked_again(trainer, step=1)[1] == 3  # of another step, nothing is there yet


@pytest.mark.parametrize("most", [step_sums.MOST_KEPT, 0])
def test_who_withdraws_while_a_step_is_stopped_is_out_of_both_halves(
    tiny_pipeline: Any, study: Study, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_sums, "MOST_KEPT", most)
    trainer = make_trainer(tiny_pipeline, study, make_tiles(SLOTS))
    stopped_after(trainer, 2)
    trainer.withdraw({1, SLOTS - 1})
    total, batches = asked_again(trainer)
    assert batches == (1 if most else 3)
    assert np.array_equal(total, sum(part_of(n) for n in range(SLOTS) if n not in {1, SLOTS - 1}))


def test_an_adapter_of_another_layout_is_refused(tiny_pipeline: Any, study: Study) -> None:
    trainer = make_trainer(tiny_pipeline, study, make_tiles(2))
    with pytest.raises(ModelError, match="expected"):
        summed(trainer, np.zeros(trainer.layout.parameters + 1, np.float32))


def test_where_patients_are_drawn_there_is_no_sum_of_all(tiny_pipeline: Any, study: Study) -> None:
    """Gradients that are used again would reveal a draw that is used again (q < 1)."""
    trainer = make_trainer(tiny_pipeline, changed(study, sampling_rate=0.5), make_tiles(2))
    with pytest.raises(AccountingError, match=r"rate 0.5.*sampling_rate = 1"):
        summed(trainer)


def pooled(study: Study) -> Study:
    """`study` with the noise of its sites pooled."""
    values = study.model_dump(mode="json")
    theirs = pooled_values()
    for part in ("aggregation", "privacy", "pooled", "chosen", "secure_aggregation", "cohort"):
        values[part] = theirs[part]
    values["adapter"]["frozen_a"] = True
    values["training"] |= {"steps": 1, "noise_multiplier": 5.0}
    values["training"] |= {"optimizer": None, "learning_rate": None}
    return Study.model_validate(values)


def test_a_trainer_of_a_pooled_study_sums_and_has_no_update_of_its_own(
    tiny_pipeline: Any, study: Study
) -> None:
    """Seven places in batches of at most four: two batches of four, not of six and one."""
    trainer = LocalTrainer(
        pooled(study), "north", tiny_pipeline, make_tiles(SLOTS), physical_rows=12, engine=Watched
    )
    trainer.prove_isolation()
    Watched.shapes.clear()
    total = summed(trainer)
    assert Watched.shapes == [(4, 2)] * 2
    assert total.any()
    with pytest.raises(AccountingError, match="pooled"):
        trainer.train(hostile(trainer), progress=lambda *_: None, should_stop=lambda: False)


@pytest.mark.parametrize(
    ("most", "slots", "places"),
    [(0, 7, 1), (1, 7, 1), (6, 7, 4), (7, 7, 7), (64, 160, 54), (64, 3, 3), (4, 160, 4)],
)
def test_places_are_spread_over_as_few_batches_as_there_can_be(
    most: int, slots: int, places: int
) -> None:
    assert places_of(most, slots, None) == places

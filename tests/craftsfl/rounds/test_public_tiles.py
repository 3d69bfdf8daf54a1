"""Figures on public tiles: paired, over patients, and only from an independent judge."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from craftsfl.rounds.public_tiles import EVALUATION_SEED, CaptionJudge, PublicTiles, rows_in_turn
from craftsfl.rounds.quality import QualityMeter
from model.adapters import attach
from model.encoders import load_image_text_encoder
from model.layout import initial_vector
from model.quality.denoising import held_out_loss, loss_change
from privacy.errors import DataError, ModelError
from privacy.study.manifest import Study
from privacy.wire.codec import Vector
from server.quality import QualityOrder, read_order
from server.status import QualityStatus
from tests.client.pictures import write_folder
from tests.server.fakes import make_study


@pytest.fixture
def study(study_values: dict[str, Any]) -> Study:
    return make_study(study_values, samples={"steps": 2})


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    one = write_folder(tmp_path / "one", patients=3, tiles=2)
    return [one, write_folder(tmp_path / "two", patients=2, tiles=1)]


def vectors(pipeline: StableDiffusionPipeline, study: Study) -> tuple[Vector, Vector]:
    """The base's own start, and an adapter that changes it."""
    start = initial_vector(attach(pipeline.unet, study.adapter), study.digest())
    return start, start + np.float32(0.2)


def order(folders: list[Path], tmp_path: Path, **changes: Any) -> QualityOrder:
    values: dict[str, Any] = {
        "study": tmp_path / "study.toml",
        "base": tmp_path,
        "folders": tuple(folders),
        "cache": tmp_path / "cache",
        "device": "cpu",
        "tiles": 100,
        "judge": None,
        "images": 3,
    }
    return QualityOrder(**{**values, **changes})


def test_the_difference_to_the_base_is_paired_over_the_patients_of_all_folders(
    tiny_pipeline: StableDiffusionPipeline, study: Study, folders: list[Path]
) -> None:
    tiles = PublicTiles.read(tiny_pipeline, study, folders)
    assert tiles.patients.tolist() == [0, 0, 1, 1, 2, 2, 3, 4]
    start, other = vectors(tiny_pipeline, study)
    before = tiles.losses(tiny_pipeline, study, start)
    after = tiles.losses(tiny_pipeline, study, other)
    alone = held_out_loss(tiny_pipeline, study.adapter, other, tiles.parts[0], seed=EVALUATION_SEED)
    np.testing.assert_array_equal(after[:6], alone)
    change = tiles.change(before, after)
    assert change == loss_change(before, after, np.array([0, 0, 1, 1, 2, 2, 3, 4]))
    assert change.low < change.mean < change.high
    assert change.mean != 0
    again = tiles.losses(tiny_pipeline, study, start)
    assert tiles.change(before, again).mean == 0


def test_encoded_tiles_are_kept(
    tiny_pipeline: StableDiffusionPipeline, study: Study, folders: list[Path], tmp_path: Path
) -> None:
    first = PublicTiles.read(tiny_pipeline, study, folders, cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == len(folders)
    again = PublicTiles.read(tiny_pipeline, study, folders, cache=tmp_path / "cache")
    for old, new in zip(first.parts, again.parts, strict=True):
        np.testing.assert_array_equal(old.latents, new.latents)


def test_every_patient_comes_before_anybodys_second_tile(
    tiny_pipeline: StableDiffusionPipeline, study: Study, folders: list[Path]
) -> None:
    assert rows_in_turn(np.array([5, 5, 5, 7, 8, 7])).tolist() == [0, 3, 4, 1, 5, 2]
    tiles = PublicTiles.read(tiny_pipeline, study, folders, most=6)
    assert tiles.patients.tolist() == [0, 1, 2, 3, 4]


def test_tiles_of_one_patient_say_nothing_about_chance(
    tiny_pipeline: StableDiffusionPipeline, study: Study, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "one", patients=1, tiles=2)
    with pytest.raises(DataError, match="single patient"):
        PublicTiles.read(tiny_pipeline, study, [folder])


def test_a_judge_that_took_part_in_training_is_refused(
    tiny_pipeline: StableDiffusionPipeline, study_values: dict[str, Any], folders: list[Path]
) -> None:
    encoder = load_image_text_encoder("tiny-evaluator")
    study_values["stage_two"] = {
        "structure": {
            "weight": 1.0,
            "margin": 0.1,
            "block": "up_blocks.0",
            "encoder": {"source": "tiny-evaluator", "digest": encoder.digest},
        }
    }
    study_values["training"]["loss"] = "stage-two"
    study = make_study(study_values)
    tiles = PublicTiles.read(tiny_pipeline, study, folders)
    with pytest.raises(ModelError, match="took part in this adapter's training"):
        CaptionJudge.load("tiny-evaluator", study, tiles, 3)


def test_figures_of_both_kinds_fit_the_round_state(
    tiny_pipeline: StableDiffusionPipeline, study: Study, folders: list[Path], tmp_path: Path
) -> None:
    meter = QualityMeter(order(folders, tmp_path, judge="tiny-evaluator"), tiny_pipeline, study)
    start, other = vectors(tiny_pipeline, study)
    base, same, changed = meter.base(), meter.figures(start), meter.figures(other)
    assert base == same
    for found in (base, changed):
        figures = [
            QualityStatus(round=0, measured=0.0, **item) for item in json.loads(json.dumps(found))
        ]
        assert [item.metric for item in figures] == ["denoising", "alignment"]
        assert [(item.patients, item.images) for item in figures] == [(5, 8), (3, 3)]
    assert all(item["change"] == item["low"] == item["high"] == 0 for item in base)
    for item in changed:
        assert item["low"] < item["change"] < item["high"]  # type: ignore[operator]


def test_a_loss_is_measured_by_one_thread(
    tiny_pipeline: StableDiffusionPipeline,
    study: Study,
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beside a whole consortium on the same cores, two would wait for each other."""
    before, seen = torch.get_num_threads(), []
    real = PublicTiles.losses

    def counted(tiles: PublicTiles, *asked: Any) -> Any:
        seen.append(torch.get_num_threads())
        return real(tiles, *asked)

    monkeypatch.setattr(PublicTiles, "losses", counted)
    torch.set_num_threads(2)
    try:
        QualityMeter(order(folders, tmp_path), tiny_pipeline, study)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


def test_an_order_survives_its_line(tmp_path: Path) -> None:
    sent = order([tmp_path / "a b", tmp_path / "ü"], tmp_path, judge="tiny")
    assert read_order(sent.encode()) == sent
    assert sent.encode().count("\n") == 1
    assert {part.name for part in fields(sent)} == set(asdict(sent))

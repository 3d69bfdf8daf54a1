"""Folders: a training job reads them as they are, they go on, and nothing is overwritten."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from client.data import load_site_data
from client.data.images import read_tile_mask
from client.training import encode_site
from model.generation.provenance import Drawing, read_provenance, software
from model.lab.control.reading import Condition
from model.lab.drawing import folder as folder_module
from model.lab.drawing.folder import (
    GRID,
    MANIFEST,
    METADATA,
    DrawingOrder,
    draw_folder,
    items,
    open_drawing,
)
from model.lab.drawing.prompts import Prompt, plain_prompts, type_prompts
from model.lab.drawing.shots import Shot, shots
from model.sampling import SamplerSettings
from privacy.errors import ModelError

PROMPTS = type_prompts(["COAD"], "tissue")[:2] + plain_prompts(["Drüsen, rund"])
SETTINGS = SamplerSettings(steps=1, guidance=1.0)
DRAWING = Drawing(base="sha256:" + "1" * 64, steps=1, guidance=1.0, software=software())


def order_of(count: int = 2, prompts: tuple[Prompt, ...] = PROMPTS) -> DrawingOrder:
    return DrawingOrder(shots(prompts, (3,), count=count), DRAWING, SETTINGS)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / METADATA).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def drawn(tmp_path: Path, tiny_pipeline: Any) -> Path:
    draw_folder(tiny_pipeline, order_of(), tmp_path / "out")
    return tmp_path / "out"


def test_a_training_job_reads_it_as_it_is(drawn: Path, tiny_pipeline: Any) -> None:
    data = load_site_data(drawn)
    assert data.quarantined == ()
    assert data.doubt == ""
    assert len(data.tiles) == 6
    assert [tile.caption for tile in data.tiles] == [p.text for p in PROMPTS for _ in range(2)]
    assert data.tiles[0].organ == "colon"
    assert data.tiles[0].diagnosis == "colon adenocarcinoma"
    tiles = encode_site(tiny_pipeline, data, base_digest="sha256:" + "1" * 64)
    assert tiles.latents.shape == (6, 4, 16, 16)


def test_many_synthetic_patients_raise_no_doubt(tmp_path: Path, tiny_pipeline: Any) -> None:
    prompts = plain_prompts([f"prompt {number}" for number in range(48)])
    draw_folder(tiny_pipeline, order_of(1, prompts), tmp_path / "out")
    data = load_site_data(tmp_path / "out")
    assert (len(data.tiles), data.patients, data.quarantined) == (48, 12, ())


def test_every_row_and_picture_says_that_it_is_synthetic(drawn: Path) -> None:
    for row in rows(drawn):
        assert row["synthetic"].startswith("yes: generated")
        assert row["patient_id"].startswith("synthetic-not-a-patient-")
        found = read_provenance(drawn / row["file_name"])
        assert found.prompts == (row["text"],)
        assert found.seeds == (int(row["seed"]),)
        assert found.drawing == DRAWING
    assert len(read_provenance(drawn / GRID).prompts) == 3
    manifest = json.loads((drawn / MANIFEST).read_text("utf-8"))
    assert manifest["complete"] is True
    assert manifest["synthetic"].startswith("yes: generated")
    assert set(manifest["sha256"]) == {row["file_name"] for row in rows(drawn)}


def test_a_folder_that_was_interrupted_goes_on(
    tmp_path: Path, tiny_pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, order = tmp_path / "out", order_of()

    def stop(done: int, every: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_folder(tiny_pipeline, order, folder, on_progress=stop)
    assert not (folder / METADATA).exists()
    first = {path.name: path.stat().st_mtime_ns for path in (folder / "images").iterdir()}
    assert len(first) == 2
    assert len(open_drawing(folder, order)) == 4
    seen: list[tuple[int, int]] = []
    draw_folder(tiny_pipeline, order, folder, on_progress=lambda *now: seen.append(now))
    assert seen == [(3, 6), (4, 6), (5, 6), (6, 6)]
    for name, when in first.items():
        assert (folder / "images" / name).stat().st_mtime_ns == when
    assert len(load_site_data(folder).tiles) == 6
    # A folder that is done is left alone; one whose table was never written gets it.
    table = folder / METADATA
    table.write_text(table.read_text("utf-8") + "\n", "utf-8")
    monkeypatch.setattr(folder_module, "sample_each", lambda *_: iter(()))
    draw_folder(tiny_pipeline, order, folder)
    assert table.read_text("utf-8").endswith("\n\n")
    manifest = folder / MANIFEST
    manifest.write_text(
        manifest.read_text("utf-8").replace('"complete": true', '"complete": false'), "utf-8"
    )
    draw_folder(tiny_pipeline, order, folder)
    assert len(rows(folder)) == 6


def test_nothing_is_overwritten(drawn: Path) -> None:
    before = {path: path.read_bytes() for path in drawn.rglob("*") if path.is_file()}
    others = (
        order_of(3),
        replace(order_of(), drawing=replace(DRAWING, guidance=2.0)),
        replace(order_of(), settings=replace(SETTINGS, size=96)),
    )
    for other in others:
        with pytest.raises(ModelError, match="pictures of another order"):
            open_drawing(drawn, other)
    (drawn / "images" / "p0001-s3.png").write_bytes((drawn / GRID).read_bytes())
    with pytest.raises(ModelError, match="not the picture that belongs there"):
        open_drawing(drawn, order_of())
    changed = [path.name for path, content in before.items() if path.read_bytes() != content]
    assert changed == ["p0001-s3.png"]


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ModelError, match="holds other files"):
        open_drawing(tmp_path, order_of())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_manifest_is_refused(drawn: Path) -> None:
    (drawn / MANIFEST).write_text("{")
    with pytest.raises(ModelError, match=r"manifest\.json differ"):
        open_drawing(drawn, order_of())


def test_patients_are_of_one_diagnosis_and_have_four_tiles() -> None:
    plan = items(shots(type_prompts(["COAD", "LUAD"], "clinical"), (1, 2)))
    of: dict[str, set[str]] = {}
    for item in plan:
        of.setdefault(item.patient, set()).add(item.shot.prompt.diagnosis)
    assert len(of) == 4
    assert all(len(diagnoses) == 1 for diagnoses in of.values())
    assert len({item.file for item in plan}) == len(plan) == 16


def test_masks_come_along_as_the_training_job_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros((64, 64), np.uint16)
    labels[10:20, 10:20], labels[30:40, 30:40] = 1, 300
    condition = Condition("case-17", torch.zeros(4, 64, 64), labels, "sha256:" + "5" * 64)
    order = DrawingOrder(shots(PROMPTS[:1], (1, 2), (condition,)), DRAWING, SETTINGS)

    def blank(_: Any, texts: Any, seeds: Any, settings: Any, conditions: Any) -> Any:
        assert conditions.planes.shape == (2, 4, 64, 64)
        assert conditions.strength == 0.5
        return ((n, Image.new("RGB", (64, 64), (n, 9, 9))) for n in range(len(texts)))

    monkeypatch.setattr(folder_module, "sample_each", blank)
    draw_folder(None, order, tmp_path / "out", strength=0.5)
    data = load_site_data(tmp_path / "out")
    assert data.quarantined == ()
    masks = [tile.mask for tile in data.tiles]
    assert all(
        mask is not None and np.array_equal(read_tile_mask(mask, 64), labels) for mask in masks
    )
    everything = "".join(p.read_text("utf-8") for p in (tmp_path / "out").glob("*.[cj]s*"))
    assert "case-17" not in everything
    picture = next((tmp_path / "out" / "images").iterdir())
    assert read_provenance(picture).conditions == ("sha256:" + "5" * 64,)


def seeds_of(made: tuple[Shot, ...]) -> list[tuple[str, int]]:
    return [(shot.prompt.text, shot.seed) for shot in made]


def test_every_prompt_with_every_seed_that_is_given_once() -> None:
    one, two, three = (prompt.text for prompt in PROMPTS)
    assert seeds_of(shots(PROMPTS, (4, 2, 4))) == [
        *((one, 4), (one, 2), (two, 4), (two, 2), (three, 4), (three, 2))
    ]


def test_else_no_two_pictures_have_one_seed() -> None:
    one, two, three = (prompt.text for prompt in PROMPTS)
    assert seeds_of(shots(PROMPTS, ())) == [(one, 0), (two, 1), (three, 2)]
    assert seeds_of(shots(PROMPTS[:2], (5,), count=2)) == [(one, 5), (one, 6), (two, 7), (two, 8)]


def test_seeds_that_cannot_be_are_refused() -> None:
    with pytest.raises(ModelError, match="2 seeds and a count of 3"):
        shots(PROMPTS, (4, 2), count=3)
    for seed in (2**63, -(2**63) - 1):
        with pytest.raises(ModelError, match="64 bits"):
            shots(PROMPTS, (seed,))
    with pytest.raises(ModelError, match="64 bits"):
        shots(PROMPTS[:1], (2**63 - 1,), count=2)

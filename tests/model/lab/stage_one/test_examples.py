"""Order, layout and the examples that come of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer

from model.lab.stage_one.examples import ExampleBatch, Examples, Pixels, example_batches
from model.lab.stage_one.order import BatchLayout, PictureOrder
from model.lab.stage_one.quarantine import Quarantine, merge, survey
from model.lab.stage_one.settings import StageOneSettings
from model.lab.stage_one.source import PictureSource, open_sources
from privacy.errors import ConfigError, ModelError
from tests.model.lab.stage_one.pictures import write_folder

SETTINGS = StageOneSettings(steps=3, batch=4, micro_batch=2, workers=0)


def source_of(folder: Path, count: int = 6) -> PictureSource:
    return open_sources([str(write_folder(folder, count))], "text", public=False)


def examples_of(source: PictureSource, dropout: float = 0.0) -> Examples:
    pixels = Pixels(source, 64, flips=True)
    return Examples(source, pixels, PictureOrder(1, len(source)), (4, 16, 16), 1000, dropout)


@pytest.fixture
def tokenizer(tiny_base: Path) -> CLIPTokenizer:
    loaded: CLIPTokenizer = CLIPTokenizer.from_pretrained(tiny_base / "tokenizer")
    return loaded


def test_every_picture_comes_once_an_epoch_and_each_epoch_is_another() -> None:
    order = PictureOrder(7, 20)
    epochs = [[order.picture(e * 20 + n) for n in range(20)] for e in range(3)]
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize("micro_batch, processes", [(8, 1), (2, 1), (4, 2), (1, 4)])
def test_a_step_has_the_same_positions_on_any_number_of_processes(
    micro_batch: int, processes: int
) -> None:
    parts = [BatchLayout(8, micro_batch, process, processes) for process in range(processes)]
    seen = [position for part in parts for micro in part.positions(5) for position in micro]
    assert sorted(seen) == list(range(40, 48))


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch of 8 .* 3 processes .* micro-batches of 2"):
        BatchLayout(8, 2, 0, 3)


def test_batches_start_anywhere_and_are_the_same(tmp_path: Path, tokenizer: CLIPTokenizer) -> None:
    examples = examples_of(source_of(tmp_path / "a"))
    layout = BatchLayout(4, 2, 0, 1)
    whole = list(example_batches(examples, tokenizer, layout, 0, SETTINGS))
    late = list(example_batches(examples, tokenizer, layout, 2, SETTINGS))
    assert len(whole) == 6 and len(late) == 2
    for ours, theirs in zip(whole[4:], late, strict=True):
        for a, b in zip(ours[:5], theirs[:5], strict=True):
            assert torch.equal(a, b)
    assert whole[0].noise.shape == (2, 4, 16, 16) and whole[0].tokens.shape == (2, 16)


def test_reading_processes_change_nothing(tmp_path: Path, tokenizer: CLIPTokenizer) -> None:
    examples = examples_of(source_of(tmp_path / "a"))
    layout = BatchLayout(4, 2, 0, 1)
    settings = SETTINGS.model_copy(update={"workers": 2})
    for ours, theirs in zip(
        example_batches(examples, tokenizer, layout, 0, SETTINGS),
        example_batches(examples, tokenizer, layout, 0, settings),
        strict=True,
    ):
        assert isinstance(theirs, ExampleBatch) and ours.content is not None
        assert torch.equal(ours.content, theirs.content)


def test_captions_are_dropped_as_often_as_said_and_nothing_else_changes(tmp_path: Path) -> None:
    source = source_of(tmp_path / "a", 2)
    kept, dropped = examples_of(source), examples_of(source, 0.3)
    empty = 0
    for position in range(200):
        ours, theirs = kept[position], dropped[position]
        assert ours.caption.startswith("tissue") and theirs.caption in ("", ours.caption)
        assert ours.timestep == theirs.timestep and (ours.noise == theirs.noise).all()
        empty += theirs.caption == ""
    assert 35 <= empty <= 85  # 60 are expected, with a deviation of 6.5


def test_a_broken_picture_is_replaced_and_noted(tmp_path: Path) -> None:
    source = source_of(tmp_path / "a", 4)
    (tmp_path / "a" / "002.png").write_bytes(b"nothing")
    examples = examples_of(source)
    faults = [fault for position in range(4) for fault in examples[position].faults]
    assert [fault.picture for fault in faults] == [2] and "not an image" in faults[0].reason
    assert all(examples[position].content is not None for position in range(4))


def test_too_many_broken_pictures_end_the_run(tmp_path: Path) -> None:
    source = source_of(tmp_path / "a", 4)
    for number in (1, 2):
        (tmp_path / "a" / f"00{number}.png").unlink()
    examples = examples_of(source)
    quarantine = Quarantine(tmp_path, 0, source, 0.25)
    with pytest.raises(ModelError, match=r"2 of 4 pictures .* \(1\).* the file is missing"):
        for position in range(4):
            quarantine.add(examples[position].faults)
    assert len(Quarantine(tmp_path, 0, source, 0.25)) == 2  # known again after a restart
    assert merge(tmp_path, tmp_path / "all.csv") == 2
    assert (tmp_path / "all.csv").read_text().splitlines() == [
        "file,reason",
        "a/001.png,the file is missing",
        "a/002.png,the file is missing",
    ]


def test_the_survey_refuses_data_that_are_mostly_unusable(tmp_path: Path) -> None:
    source = source_of(tmp_path / "a", 4)
    survey(source, 64)
    with pytest.raises(ModelError, match=r"4 of 4 .* smaller than 128x128"):
        survey(source, 128)

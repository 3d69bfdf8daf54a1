"""Sampling: a seed is an image; pictures for people have the layout they promise."""

from __future__ import annotations

import copy
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from PIL import Image

from model.base import load_base
from model.generation.grid import Column, grid
from model.sampling import Conditions, SamplerSettings, sample, sample_each
from privacy.errors import ModelError

TINY = Path(__file__).parents[2] / "weights" / "tiny"
needs_weights = pytest.mark.skipif(not TINY.is_dir(), reason="weights/tiny is not checked out")
PROMPTS = ["colon adenocarcinoma, colon: round glands with open lumens.", "fibrous stroma"]


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return load_base(TINY)


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(float)


@needs_weights
def test_a_seed_gives_the_same_image_whatever_the_batch(pipeline: Any) -> None:
    together = sample(pipeline, [*PROMPTS, "fat"], [1, 2, 3], steps=6)
    again = sample(pipeline, [*PROMPTS, "fat"], [1, 2, 3], steps=6)
    alone = sample(pipeline, [PROMPTS[1]], [2], steps=6)
    assert [image.size for image in together] == [(64, 64)] * 3
    assert all(np.array_equal(levels(a), levels(b)) for a, b in zip(together, again, strict=True))
    assert np.abs(levels(together[1]) - levels(alone[0])).max() <= 2  # rounding


@needs_weights
def test_seed_prompt_and_guidance_each_change_the_image(pipeline: Any) -> None:
    base, seed, prompt = sample(pipeline, [PROMPTS[0]] * 2 + [PROMPTS[1]], [1, 2, 1], steps=4)
    (guided,) = sample(pipeline, [PROMPTS[0]], [1], steps=4, guidance=8.0)
    for other in (seed, prompt, guided):
        assert np.abs(levels(base) - levels(other)).mean() > 1


@needs_weights
def test_another_size_can_be_asked_for(pipeline: Any) -> None:
    (image,) = sample(pipeline, [PROMPTS[0]], [1], steps=2, size=96)
    assert image.size == (96, 96)
    with pytest.raises(ModelError, match="multiple of 8"):
        sample(pipeline, [PROMPTS[0]], [1], steps=2, size=100)


@needs_weights
@pytest.mark.parametrize("remembers", [False, True], ids=["ddim", "multistep"])
def test_workers_and_batches_change_no_image_and_leave_torch_as_it_was(
    pipeline: Any, remembers: bool
) -> None:
    pipeline = copy.copy(pipeline)
    if remembers:  # of the steps before: two workers must not share it
        kind: Any = DPMSolverMultistepScheduler
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
    prompts, seeds = [PROMPTS[k % 2] for k in range(5)], list(range(5))
    alone = sample(pipeline, prompts, seeds, steps=3)
    threads = torch.get_num_threads()
    settings = SamplerSettings(steps=3, batch=2, workers=2)
    shared = dict(sample_each(pipeline, prompts, seeds, settings))
    assert sorted(shared) == seeds
    for index, image in shared.items():
        assert np.abs(levels(image) - levels(alone[index])).max() <= 2  # rounding
    assert torch.get_num_threads() == threads


@needs_weights
def test_no_tokenizer_serves_two_workers_at_once(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One keeps the truncation of its last call: another thread's call would change it."""
    inside: Counter[int] = Counter()
    shared: set[int] = set()
    kind = type(pipeline.tokenizer)
    call = kind.__call__

    def slow(self: Any, *arguments: Any, **options: Any) -> Any:
        inside[id(self)] += 1
        if inside[id(self)] > 1:
            shared.add(id(self))
        time.sleep(0.05)  # long enough for the other worker to arrive
        try:
            return call(self, *arguments, **options)
        finally:
            inside[id(self)] -= 1

    monkeypatch.setattr(kind, "__call__", slow)
    settings = SamplerSettings(steps=1, batch=1, workers=2)
    list(sample_each(pipeline, ["a"] * 4, [1, 2, 3, 4], settings))
    assert len(inside) == 2 and not shared


@needs_weights
def test_an_error_in_a_worker_is_told_and_ends_all(pipeline: Any) -> None:
    threads = torch.get_num_threads()
    settings = SamplerSettings(steps=2000, batch=1, workers=2)  # the schedule has 1000
    with pytest.raises(ValueError, match="cannot be larger than"):
        list(sample_each(pipeline, ["a"] * 4, [1, 2, 3, 4], settings))
    assert torch.get_num_threads() == threads


def test_prompts_and_seeds_must_pair_up() -> None:
    with pytest.raises(ModelError, match="2 prompts but 1 seeds"):
        sample(None, PROMPTS, [1])
    conditions = Conditions(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ModelError, match="2 prompts but 1 conditions"):
        list(sample_each(None, PROMPTS, [1, 2], SamplerSettings(), conditions))


def plain(colour: tuple[int, int, int], size: int = 64) -> Image.Image:
    return Image.new("RGB", (size, size), colour)


def test_before_and_after_stand_side_by_side_enlarged() -> None:
    red, blue = (200, 0, 0), (0, 0, 200)
    columns = [Column("before", [plain(red)] * 2), Column("after", [plain(blue)] * 2)]
    picture = grid(columns, PROMPTS)
    colours = picture.getcolors(1 << 20) or []
    counts = {colour: count for count, colour in colours}
    assert counts[red] == counts[blue] == 2 * 192 * 192
    where = np.asarray(picture)
    reds = np.nonzero((where == red).all(axis=2))[1]
    blues = np.nonzero((where == blue).all(axis=2))[1]
    assert reds.max() < blues.min()


def test_labels_and_prompts_are_written_into_the_picture() -> None:
    images = [plain((9, 99, 9))]
    texts = [("a", "prompt"), ("b", "prompt"), ("a", "another, longer prompt")]
    pictures = {grid([Column(label, images)], [prompt]).tobytes() for label, prompt in texts}
    assert len(pictures) == 3


def test_large_images_are_shrunk_into_their_cells() -> None:
    small, large = (grid([Column("x", [plain((9, 9, 9), size)])], ["p"]) for size in (64, 512))
    assert small.size == large.size


def test_a_short_column_is_refused() -> None:
    with pytest.raises(ModelError, match="'after' has 1 images for 2 prompts"):
        grid([Column("after", [plain((0, 0, 0))])], PROMPTS)

"""The public margin: a weighted median, the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.encoders import ImageEncoder
from model.lab import margin as margins
from model.lab.margin import Margin, PublicImages, public_margin
from privacy.errors import ModelError
from tests.model.losses.worlds import BLOCK


class Patches:
    """An encoder whose tokens are the colours of 4 x 4 patches of 64 px images."""

    name, digest, size, device = "patches", "sha256:" + "0" * 64, 64, torch.device("cpu")

    def tokens(self, images: Tensor) -> Tensor:
        return torch.nn.functional.unfold(images, 4, stride=4).reshape(len(images), -1, 16, 16)

    def embed(self, images: Tensor) -> Tensor:
        return self.tokens(images).mean(dim=(2, 3))


def images(count: int) -> PublicImages:
    random = np.random.default_rng(0)
    blocks = random.integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    return PublicImages(blocks.repeat(8, axis=1).repeat(8, axis=2), ["glands"] * count)


def test_a_margin_is_measured_and_repeatable(tiny_pipeline: Any) -> None:
    encoder: ImageEncoder = Patches()
    found = [
        public_margin(tiny_pipeline, encoder, images(10), BLOCK, seed=seed, draws=2)
        for seed in (1, 1, 2)
    ]
    assert found[0] == found[1] != found[2]
    assert -1 < found[0].low <= found[0].median <= found[0].high < 1
    assert (found[0].images, found[0].draws) == (10, 2)


def test_too_few_images_and_unknown_blocks_are_refused(tiny_pipeline: Any) -> None:
    with pytest.raises(ModelError, match="7 public images are too few"):
        public_margin(tiny_pipeline, Patches(), images(7), BLOCK)
    with pytest.raises(ModelError, match="no block"):
        public_margin(tiny_pipeline, Patches(), images(8), "up_blocks.9")


def test_the_median_weighs_by_the_signal() -> None:
    values, weights = np.array([0.9, 0.1, 0.5]), np.array([0.2, 1.0, 0.1])
    assert margins._quantile(values, weights, 0.5) == 0.1
    assert margins._quantile(values, np.ones(3), 0.5) == 0.5
    assert margins._quantile(values, weights, 0.85) == 0.9


@pytest.mark.parametrize(("median", "expected"), [(0.5, 0.6), (0.531, 0.64), (0.95, 1.0)])
def test_a_little_more_than_the_base_does(median: float, expected: float) -> None:
    assert Margin(median, 0, 1, 8, 1).margin == pytest.approx(expected)

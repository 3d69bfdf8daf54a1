from __future__ import annotations

import numpy as np
import pytest

from model.lab.evaluation.figures import ImageSet
from model.lab.evaluation.mask import mask_figures
from model.quality.alignment import TooFewError

_STROMA, _NUCLEUS = (238, 190, 216), (88, 60, 140)


def _nuclei(n: int, seed: int) -> tuple[ImageSet, np.ndarray]:
    """Stained discs on pink, and the instances that they are."""
    rng = np.random.default_rng(seed)
    images = np.empty((n, 64, 64, 3), np.uint8)
    masks = np.zeros((n, 64, 64), np.int64)
    down, across = np.mgrid[:64, :64]
    for image, mask in zip(images, masks, strict=True):
        image[:] = _STROMA
        for number in range(1, 7):
            y, x = rng.integers(6, 58, 2)
            disc = (down - y) ** 2 + (across - x) ** 2 < 20
            image[disc], mask[disc] = _NUCLEUS, number
    return ImageSet(images, ("nuclei",) * n, np.arange(n)), masks


def test_images_that_follow_their_masks_beat_shuffled_masks() -> None:
    figures = {figure.metric: figure for figure in mask_figures(*_nuclei(6, 0), seed=0)}
    dice = figures["mask_dice"]
    assert dice.low > 0.6 > dice.beside[0].value
    assert dice.beside[0].name == "shuffled masks" and dice.n_generated == 6


def test_images_that_follow_none_do_not() -> None:
    images, _ = _nuclei(6, 0)
    _, masks = _nuclei(6, 1)
    dice = mask_figures(images, masks, seed=0)[0]
    assert dice.value < 0.4


def test_a_single_image_is_too_few() -> None:
    with pytest.raises(TooFewError, match="2 images"):
        mask_figures(*_nuclei(1, 0), seed=0)

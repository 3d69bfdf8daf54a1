"""An encoder without weights, and images that resemble others of the same owner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from model.lab.evaluation.figures import ImageSet

COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "grey", "black")
_RGB = np.array(
    [
        [220, 40, 40],
        [40, 220, 40],
        [40, 40, 220],
        [220, 220, 40],
        [40, 220, 220],
        [220, 40, 220],
        [130, 130, 130],
        [30, 30, 30],
    ]
)


class ColourEncoder:
    """Means of a 2 x 2 grid; texts name colours. Knows images and texts."""

    name = "colours"
    digest = "sha256:" + "c" * 64
    size = 16
    device = torch.device("cpu")

    def tokens(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        centred = images.mean(dim=(2, 3)) - 0.5
        fine = 0.3 * (self.tokens(images).flatten(1) - 0.5)
        return torch.nn.functional.normalize(torch.cat([centred, fine], dim=1))

    def embed_text(self, texts: Sequence[str]) -> torch.Tensor:
        rgb = torch.tensor(np.array([_RGB[COLOURS.index(t.split()[0])] for t in texts]) / 255 - 0.5)
        fine = 0.3 * rgb.repeat_interleave(4, dim=1)
        return torch.nn.functional.normalize(torch.cat([rgb, fine], dim=1).float())


def colour_tiles(
    patients: int, tiles_each: int, seed: int, *, first: int = 0, noise: float = 25.0
) -> ImageSet:
    """Each patient has a colour by number, and its own tint and texture in all its tiles."""
    images, captions, owners = [], [], []
    for number in range(first, first + patients):
        rng = np.random.default_rng([seed, number])
        colour = number % len(COLOURS)
        own = (
            _RGB[colour]
            + rng.normal(0, 20, 3)
            + rng.normal(0, 30, (4, 4, 1)).repeat(4, 0).repeat(4, 1)
        )
        for _ in range(tiles_each):
            drawn = own + rng.normal(0, noise, (16, 16, 3))
            images.append(np.clip(drawn, 0, 255).astype(np.uint8))
            captions.append(f"{COLOURS[colour]} tissue")
            owners.append(number)
    return ImageSet(np.stack(images), tuple(captions), np.array(owners, np.int64))


# Which figures each metric gives; drift and mask need more than tiles.
FIGURES = {
    "frechet": {"frechet"},
    "kid": {"kid"},
    "cmmd": {"cmmd"},
    "neighbours": {"precision", "recall", "density", "coverage"},
    "alignment": {"alignment", "alignment_gain"},
    "retrieval": {f"{w}_r{k}" for w in ("image_to_text", "text_to_image") for k in (1, 5)},
    "agreement": {"semantic_agreement"},
    "memorisation": {"authentic", "copies", "copying", "nearer_training"},
}

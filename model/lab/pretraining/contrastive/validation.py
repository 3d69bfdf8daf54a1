"""How good a tiny encoder is, on tiles that its training never saw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.arrays import Doubles
from model.encoders import ImageEncoder, ImageTextEncoder, prepare
from model.lab.pretraining.contrastive.corpus import (
    CONTENTS,
    CaptionedCorpus,
    content_of,
    draw_content_caption,
)
from model.lab.tissue.appearance import Appearance
from model.lab.tissue.domain import RARE_TYPES, STAINS
from model.lab.tissue.tile import MORPHOLOGIES, draw_tile

_GRID = 8


@dataclass(frozen=True)
class ValidationFigure:
    """The mean of n values, with a 95 % percentile-bootstrap interval over them (2000 draws)."""

    mean: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Doubles) -> ValidationFigure:
        """From values [n], fixed seed."""
        rng = np.random.default_rng(0)
        means = values[rng.integers(len(values), size=(2000, len(values)))].mean(axis=1)
        low, high = np.percentile(means, [2.5, 97.5])
        return cls(float(values.mean()), float(low), float(high), len(values))


def validate(
    encoder: ImageTextEncoder, tiles: CaptionedCorpus, seed: int
) -> dict[str, ValidationFigure]:
    """Retrieval, accuracy in the domain, and the control with shuffled captions.

    tiles: galleries of 52, as `draw_held_out` orders them; each tile is of a patient of its own.
    Retrieval is within a gallery, so chance is 1 in 52.
    """
    images, texts = _embedded(encoder, tiles, seed)
    similarity = np.einsum("gie,gte->git", images, texts)
    shuffled = similarity[:, :, _derangement(seed)]
    own = np.diagonal(similarity, axis1=1, axis2=2)
    control = np.diagonal(shuffled, axis1=1, axis2=2)
    found = {
        "image to text R@1": _recall(similarity, 1),
        "image to text R@5": _recall(similarity, 5),
        "text to image R@1": _recall(similarity.transpose(0, 2, 1), 1),
        "text to image R@5": _recall(similarity.transpose(0, 2, 1), 5),
        "image to text R@1, captions shuffled": _recall(shuffled, 1),
        "cosine, own caption": own.ravel(),
        "cosine, own less shuffled caption": (own - control).ravel(),
    }
    return {
        name: ValidationFigure.of(values)
        for name, values in (found | _accuracy(similarity)).items()
    }


def _derangement(seed: int) -> NDArray[np.intp]:
    """Another content for each of 52: the next one in a random circle."""
    circle = np.random.default_rng(seed).permutation(CONTENTS)
    other = np.empty_like(circle)
    other[circle] = np.roll(circle, 1)
    return other


def _embedded(
    encoder: ImageTextEncoder, tiles: CaptionedCorpus, seed: int
) -> tuple[Doubles, Doubles]:
    """Embeddings [galleries, 52, E] of tiles and of a caption drawn for each."""
    rng = np.random.default_rng([seed, 6])
    captions = [draw_content_caption(int(content), rng) for content in tiles.contents]
    with torch.no_grad():
        images = encoder.embed(prepare(tiles.images, encoder)).double().cpu().numpy()
        texts = encoder.embed_text(captions).double().cpu().numpy()
    shape = (-1, CONTENTS, images.shape[1])
    return images.reshape(shape), texts.reshape(shape)


def _recall(similarity: Doubles, k: int) -> Doubles:
    """Whether the true one of each row of [g, q, c] is among the first k: [g * q]."""
    own = np.diagonal(similarity, axis1=1, axis2=2)[:, :, None]
    return np.asarray(((similarity > own).sum(axis=2) < k).ravel(), np.float64)


def _accuracy(similarity: Doubles) -> dict[str, Doubles]:
    """Type among captions of the tile's stain, and stain among captions of its type."""
    pairs = [(stain, rare) for rare in range(len(RARE_TYPES)) for stain in range(len(STAINS))]
    types, stains = [], []
    for stain, rare in pairs:
        row = similarity[:, content_of(stain, rare)]
        of_stain = row[:, [content_of(stain, other) for other in range(len(RARE_TYPES))]]
        of_type = row[:, [content_of(other, rare) for other in range(len(STAINS))]]
        types.append(of_stain.argmax(axis=1) == rare)
        stains.append(of_type.argmax(axis=1) == stain)
    return {
        "rare type, 8 to choose from": np.ravel(types).astype(np.float64),
        "stain, 5 to choose from": np.ravel(stains).astype(np.float64),
    }


def validate_layout(
    encoder: ImageEncoder, seed: int, per_morphology: int = 10
) -> dict[str, ValidationFigure]:
    """Do tokens show where the nuclei are? Pearson's r over the pairs of an 8 x 8 grid's cells.

    Between the tokens' similarity (channels z-scored over the cells, as in the correlation loss)
    and that of the nuclei's cover; control: the cover of another tile of the same morphology.
    """
    rng = np.random.default_rng([seed, 7])
    tiles = [
        draw_tile(morphology, Appearance.draw(rng), rng)
        for morphology in MORPHOLOGIES
        for _ in range(per_morphology)
    ]
    images = np.stack([tile.image for tile in tiles])
    with torch.no_grad():
        tokens = encoder.tokens(prepare(images, encoder))
        pooled = torch.nn.functional.adaptive_avg_pool2d(tokens, _GRID)
    cover = [_cells(np.asarray(tile.mask > 0, np.float64)) for tile in tiles]
    others = [cover[i - i % per_morphology + (i + 1) % per_morphology] for i in range(len(cover))]
    rows = [_similarity(row) for row in pooled.flatten(2).double().cpu().numpy()]
    own = _correlations(rows, cover)
    control = _correlations(rows, others)
    known = np.isfinite(own) & np.isfinite(control)  # a tile without nuclei has no layout
    return {
        "layout of nuclei, r": ValidationFigure.of(own[known]),
        "layout of nuclei, r less another tile's": ValidationFigure.of((own - control)[known]),
    }


def _cells(mask: Doubles) -> Doubles:
    """Mean over each of 8 x 8 cells, [64]."""
    side = mask.shape[0] // _GRID
    return np.asarray(mask.reshape(_GRID, side, _GRID, side).mean(axis=(1, 3)).ravel())


def _similarity(tokens: Doubles) -> Doubles:
    """Strict upper triangle of the cosines of cells, of tokens [D, cells] z-scored by channel."""
    scored = (tokens - tokens.mean(axis=1, keepdims=True)) / (
        tokens.std(axis=1, keepdims=True) + 1e-6
    )
    rows = scored.T / np.linalg.norm(scored.T, axis=1, keepdims=True)
    return np.asarray((rows @ rows.T)[np.triu_indices(rows.shape[0], 1)])


def _correlations(similarities: list[Doubles], covers: list[Doubles]) -> Doubles:
    """Pearson's r, [n], of similarities with minus the cells' difference in cover."""
    upper = np.triu_indices(_GRID * _GRID, 1)
    values = []
    for similarity, cover in zip(similarities, covers, strict=True):
        near = -np.abs(cover[:, None] - cover)[upper]
        flat = near.std() < 1e-9 or similarity.std() < 1e-9
        values.append(np.nan if flat else np.corrcoef(similarity, near)[0, 1])
    return np.asarray(values)

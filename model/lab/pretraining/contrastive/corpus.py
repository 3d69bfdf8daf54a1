"""Tiles and captions that the tiny encoders learn from: stage one's and the domain's.

A tile's content is what its caption says and its picture shows: one of 12 morphologies in H&E, or
one of 8 rare types in one of 5 other stains; 52 in all, numbered in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.arrays import Images
from model.lab.pretraining.contrastive.recipe import EncoderRecipe
from model.lab.pretraining.contrastive.wording import Wording
from model.lab.pretraining.corpus import draw_caption
from model.lab.pretraining.recipe import Progress
from model.lab.tissue.domain import (
    RARE_TYPES,
    STAINS,
    DomainTiles,
    RareType,
    Stain,
    domain_caption,
    draw_domain,
)
from model.lab.tissue.tile import MORPHOLOGIES, draw_series
from privacy.files import PUBLIC, replacing

CONTENTS = len(MORPHOLOGIES) + len(RARE_TYPES) * len(STAINS)
_FIRST_OF_DOMAIN = len(MORPHOLOGIES)
_TILES_A_PATIENT = 2

Contents = NDArray[np.int64]
# images uint8 [n, 64, 64, 3] as a base's autoencoder reconstructs them
Reconstruct = Callable[[Images], Images]


@dataclass(frozen=True)
class CaptionedCorpus:
    """images uint8 [n, 64, 64, 3]; contents int64 [n], 0 to 51; the first `drawn` are as drawn."""

    images: Images
    contents: Contents
    drawn: int

    def part(self, *, domain: bool, drawn: bool) -> NDArray[np.intp]:
        """Positions of the domain's tiles or stage one's, as drawn or reconstructed."""
        of_domain = self.contents >= _FIRST_OF_DOMAIN
        as_drawn = np.arange(len(self.contents)) < self.drawn
        return np.flatnonzero((of_domain == domain) & (as_drawn == drawn))


def content_of(stain: int, rare: int) -> int:
    """Content of a rare type in a stain, both by index."""
    return _FIRST_OF_DOMAIN + rare * len(STAINS) + stain


def draw_content_caption(content: int, rng: np.random.Generator) -> str:
    """What a patient's tile of a content comes with: in H&E one of many, else the only one."""
    if content < _FIRST_OF_DOMAIN:
        return draw_caption(content, rng)
    return domain_caption(*_pair(content))


def draw_lesson(content: int, wording: Wording, rng: np.random.Generator) -> str:
    """A caption of a content as an encoder learns it, in words of its own."""
    if content < _FIRST_OF_DOMAIN:
        return wording.of_slide(content, rng)
    return wording.of_domain(*_pair(content), rng)


def vocabulary_texts(seed: int, wording: Wording, count: int = 6000) -> list[str]:
    """An encoder's captions of all contents in turn, to train its tokenizer on."""
    rng = np.random.default_rng([seed, 1 << 32])
    return [draw_lesson(index % CONTENTS, wording, rng) for index in range(count)]


def _pair(content: int) -> tuple[RareType, Stain]:
    rare, stain = divmod(content - _FIRST_OF_DOMAIN, len(STAINS))
    return RARE_TYPES[rare], STAINS[stain]


def draw_training(
    recipe: EncoderRecipe, reconstruct: Reconstruct, workspace: Path, on_progress: Progress
) -> CaptionedCorpus:
    """Drawn tiles, then reconstructions of some; read back if an earlier run kept them."""
    file = workspace / "tiles.npz"
    if not file.exists():
        tiles = _draw(recipe, on_progress)
        few = _some_of_each(tiles, recipe.reconstructed)
        on_progress("reconstructions", 0, 1)
        again = reconstruct(tiles.images[few])
        on_progress("reconstructions", 1, 1)
        with replacing(file, PUBLIC) as stream:
            np.savez(
                stream,
                images=np.concatenate([tiles.images, again]),
                contents=np.concatenate([tiles.contents, tiles.contents[few]]),
            )
    with np.load(file) as kept:
        return CaptionedCorpus(kept["images"], kept["contents"], 2 * recipe.tiles)


def draw_held_out(recipe: EncoderRecipe) -> CaptionedCorpus:
    """Tiles that training never sees, of other patients: `galleries` of each content.

    Ordered in galleries: each run of 52 shows every content once.
    """
    slides = draw_series(recipe.seed, recipe.tiles, recipe.galleries * _FIRST_OF_DOMAIN)
    pairs = len(STAINS) * len(RARE_TYPES)
    domain = draw_domain(recipe.galleries * pairs, 1, recipe.seed, first=_patients(recipe))
    images = np.concatenate([slides, domain.images])
    contents = np.concatenate([np.arange(len(slides)) % _FIRST_OF_DOMAIN, _contents(domain)])
    order = np.argsort(contents, kind="stable").reshape(CONTENTS, recipe.galleries).T.ravel()
    return CaptionedCorpus(images[order], contents[order].astype(np.int64), len(images))


def _patients(recipe: EncoderRecipe) -> int:
    return recipe.tiles // _TILES_A_PATIENT


def _draw(recipe: EncoderRecipe, on_progress: Progress) -> CaptionedCorpus:
    on_progress("tiles", 0, 2)
    slides = draw_series(recipe.seed, 0, recipe.tiles)
    on_progress("tiles", 1, 2)
    domain = draw_domain(_patients(recipe), _TILES_A_PATIENT, recipe.seed)
    on_progress("tiles", 2, 2)
    contents = np.concatenate([np.arange(len(slides)) % _FIRST_OF_DOMAIN, _contents(domain)])
    images = np.concatenate([slides, domain.images])
    return CaptionedCorpus(images, contents.astype(np.int64), len(images))


def _contents(domain: DomainTiles) -> Contents:
    return _FIRST_OF_DOMAIN + domain.type_of * len(STAINS) + domain.stain_of


def _some_of_each(tiles: CaptionedCorpus, count: int) -> NDArray[np.intp]:
    """Positions of the first `count` of each source; contents follow each other in turn."""
    parts = [tiles.part(domain=domain, drawn=True)[:count] for domain in (False, True)]
    return np.concatenate(parts)

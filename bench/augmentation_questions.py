"""Templated questions about a picture: a frozen trunk, and a small head for each question.

A drawn picture answers only what its prompt settles, the pattern and the cancer: how it is stained
and how many nuclei it has, nobody has written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from bench.augmentation_patients import ContentTiles, content_look
from model.arrays import Doubles, Groups
from model.lab.augmentation.heads import fit_head
from model.lab.augmentation.lessons import Labelled, Lessons
from model.lab.augmentation.networks import NetworkRecipe, seen_by
from model.lab.augmentation.views import pretrain_views
from model.lab.tissue.tile import MORPHOLOGIES

ASKED: Final = {
    "pattern": "Which pattern does the tissue show?",
    "cancer": "Which cancer is this?",
    "staining": "Which hospital's staining is it?",
    "nuclei": "Are there few nuclei, some, or many?",
}
_BOUNDS: Final = (15, 40)  # of few and of some, nuclei a tile
_UNKNOWN: Final = -1


def answered_questions(
    real: ContentTiles | None,
    synthetic: ContentTiles | None,
    tested: ContentTiles,
    seed: int,
    recipe: NetworkRecipe,
) -> dict[str, Doubles]:
    """Of each question, and of "all": how right each tested tile's answer is, 0 to 1.

    The trunk is pretrained on all pictures shown, without labels, and frozen. A question that no
    picture shown can answer is answered wrongly.
    """
    shown = [tiles for tiles in (real, synthetic) if tiles is not None and len(tiles)]
    trunk = pretrain_views(np.concatenate([tiles.images for tiles in shown]), seed, recipe)
    features = {id(tiles): seen_by(trunk, tiles.images) for tiles in (*shown, tested)}
    found: dict[str, Doubles] = {}
    for question in ASKED:
        parts = [
            _known(Labelled(features[id(tiles)], _answers(question, tiles)))
            if tiles is not None and len(tiles)
            else None
            for tiles in (real, synthetic)
        ]
        guesses = _guesses(parts, features[id(tested)])
        found[question] = (guesses == _answers(question, tested)).astype(np.float64)
    return {"all": np.mean(list(found.values()), axis=0), **found}


def _guesses(parts: Sequence[Labelled | None], features: Doubles) -> Groups:
    counts = {int(answer) for part in parts if part is not None for answer in part.classes}
    if len(counts) < 2:  # nothing to learn: the only answer there is, or none
        return np.full(len(features), counts.pop() if counts else _UNKNOWN - 1, np.int64)
    return fit_head(Lessons(*parts)).predicted(features.astype(np.float32))


def _known(answers: Labelled) -> Labelled:
    return answers.chosen(answers.classes != _UNKNOWN)


def _answers(question: str, tiles: ContentTiles) -> Groups:
    """The right answer's number for each tile; -1 where nobody knows."""
    if question == "cancer":
        return tiles.contents
    if question == "staining":
        return tiles.hospitals
    if question == "nuclei":
        return np.where(tiles.nuclei < 0, _UNKNOWN, np.searchsorted(_BOUNDS, tiles.nuclei))
    looks = [MORPHOLOGIES.index(content_look(int(content))) for content in tiles.contents]
    return np.array(looks, np.int64)

from __future__ import annotations

import numpy as np
import pytest

from model.arrays import Groups
from model.lab.evaluation.encode import EncoderSpace, PixelSpace, Space, views
from model.lab.evaluation.figures import Figure, ImageSet
from model.lab.evaluation.memorisation import (
    Nearest,
    Suspects,
    Views,
    apart,
    authentic,
    between_patients,
    copying,
    memorisation,
    nearest,
    symmetries,
)
from model.lab.evaluation.patients import multiplicities
from model.quality.alignment import TooFewError
from tests.model.lab.evaluation.fakes import ColourEncoder, colour_tiles

SPACES = (PixelSpace(), EncoderSpace(ColourEncoder()))


def _views(space: Space, images: ImageSet) -> Views:
    weights = multiplicities(images.patients, 100, np.random.default_rng(0))
    return views(space, images.images, images.patients, weights)


def _suspects(space: Space, generated: ImageSet, epsilon: float | None = None) -> Suspects:
    training, held_out = colour_tiles(16, 4, 0), colour_tiles(16, 4, 0, first=100)
    of = (_views(space, images) for images in (training, held_out, generated))
    return Suspects(space.name, *of, seed=0, epsilon=epsilon)


def _turned_copies(noise: float = 3.0) -> ImageSet:
    """Training tiles, each turned or mirrored and a little changed."""
    training = colour_tiles(16, 4, 0)
    all_ways = symmetries(training.images)
    copies = np.stack([all_ways[row % 8, row] for row in range(len(training))])
    changed = copies + np.random.default_rng(0).normal(0, noise, copies.shape)
    return ImageSet(
        np.clip(changed, 0, 255).astype(np.uint8), training.captions, np.arange(len(training))
    )


def _by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.metric: figure for figure in figures}


def _by_chance(figure: Figure) -> bool:
    """Whether it lies where shuffled patients put it."""
    chance = figure.beside[0]
    assert chance.low is not None and chance.high is not None
    return chance.low <= figure.value <= chance.high


def test_the_eight_symmetries_are_different_and_complete() -> None:
    image = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1).repeat(3, axis=3)
    views = symmetries(image)
    assert len({view.tobytes() for view in views}) == 8
    again = {view.tobytes() for one in views for view in symmetries(one)}
    assert again == {view.tobytes() for view in views}  # a group: nothing new comes of it


def test_a_turned_and_mirrored_tile_is_found_at_distance_0() -> None:
    tiles = colour_tiles(10, 2, 0)
    for view in range(8):
        copies = ImageSet(symmetries(tiles.images)[view], tiles.captions, tiles.patients)
        found = nearest(apart(_views(PixelSpace(), copies), _views(PixelSpace(), tiles)))
        assert found.row.tolist() == list(range(20))
        assert found.distance == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_planted_copies_are_found_in_every_way(space: Space) -> None:
    figures, found = memorisation(_suspects(space, _turned_copies()))
    named = _by_name(figures)
    assert (found.generated.row == np.arange(64)).mean() > 0.7
    assert named["authentic"].high < 0.1 < named["authentic"].beside[0].value
    assert named["copying"].high < -3
    assert named["nearer_training"].low > 0.9 and not _by_chance(named["nearer_training"])


def test_copies_are_counted_and_fresh_tiles_are_not() -> None:
    copied = _by_name(memorisation(_suspects(PixelSpace(), _turned_copies()))[0])["copies"]
    fresh = colour_tiles(16, 4, 0, first=200)
    original = _by_name(memorisation(_suspects(PixelSpace(), fresh))[0])["copies"]
    assert copied.value == 1.0 and original.value == 0.0


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_fresh_tiles_of_other_patients_look_like_the_held_out_ones(space: Space) -> None:
    named = _by_name(memorisation(_suspects(space, colour_tiles(16, 4, 0, first=200)))[0])
    held_out = named["authentic"].beside[0]
    assert held_out.low is not None and held_out.high is not None
    assert named["authentic"].low < held_out.high and held_out.low < named["authentic"].high
    assert named["copying"].low < 0 < named["copying"].high
    assert _by_chance(named["nearer_training"])


def test_neighbours_within_a_patient_would_flatter() -> None:
    tiles = _views(PixelSpace(), colour_tiles(16, 4, 0))
    every_tile_a_patient = Views(tiles.views, np.arange(64), tiles.weights)
    within, between = between_patients(every_tile_a_patient), between_patients(tiles)
    # A patient's own tiles are so near that even copies would pass as authentic beside them.
    assert between.distance.mean() > 1.5 * within.distance.mean()
    copies = nearest(apart(_views(PixelSpace(), _turned_copies(noise=40.0)), tiles))
    flattered = authentic(copies, within.distance).mean()
    honest = authentic(copies, between.distance).mean()
    assert honest < 0.2 and flattered > honest + 0.2


def test_one_patients_tiles_have_no_baseline() -> None:
    with pytest.raises(TooFewError, match="one patient's"):
        between_patients(_views(PixelSpace(), colour_tiles(1, 5, 0)))


def _at(*distances: float) -> Nearest:
    return Nearest(np.array(distances), np.zeros(len(distances), np.int64))


def test_c_t_by_hand() -> None:
    # All of 5 generated nearer than all of 5 held-out: U = 0, mean 12.5, sd sqrt(25 * 11 / 12).
    mine, theirs = _at(1, 2, 3, 4, 5), _at(6, 7, 8, 9, 10)
    cells: Groups = np.zeros(1, np.int64)
    once = (np.ones((1, 5)), np.ones((1, 5)))
    z = 12.5 / np.sqrt(25 * 11 / 12)
    assert copying(mine, theirs, cells, once) == pytest.approx([-z])
    assert copying(theirs, mine, cells, once) == pytest.approx([z])
    assert copying(mine, mine, cells, once) == pytest.approx([0])  # ties count half


def test_c_t_needs_images_in_common_cells() -> None:
    apart = Nearest(np.ones(5), np.ones(5, np.int64))
    with pytest.raises(TooFewError, match="C_T needs 5"):
        copying(_at(1, 2, 3, 4, 5), apart, np.array([0, 1]), (np.ones((1, 5)), np.ones((1, 5))))


def test_dull_images_trouble_c_t_and_not_the_share_nearer_to_training() -> None:
    # Fresh, but of less contrast than tiles: nearer to all tiles than these are to each other.
    fresh = colour_tiles(16, 4, 0, first=200, noise=2.0)
    named = _by_name(memorisation(_suspects(PixelSpace(), fresh))[0])
    assert named["copying"].high < -1
    assert _by_chance(named["nearer_training"])


def test_too_few_images_are_refused_and_epsilon_stands_beside() -> None:
    with pytest.raises(TooFewError, match="20 generated images; there are 8"):
        memorisation(_suspects(PixelSpace(), colour_tiles(4, 2, 5)))
    figures, _ = memorisation(_suspects(PixelSpace(), _turned_copies(), epsilon=7.5))
    assert [figure.beside[-1].value for figure in figures] == [7.5] * 4

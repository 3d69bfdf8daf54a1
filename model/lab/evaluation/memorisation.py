"""Does a model reproduce what it was trained on? Nearest training tiles, with honest baselines.

A tissue tile has no upright side: a copy may be turned or mirrored, so a distance is the smallest
over the 8 symmetries of the square. Tiles of one patient are close to each other anyway, so how
close training tiles are to each other is measured only between patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from model.arrays import Doubles, Features, Groups
from model.lab.evaluation.figures import Figure, Reference
from model.lab.evaluation.neighbours import distances
from model.lab.evaluation.patients import halves, interval, mean_interval, percentiles
from model.quality.alignment import TooFewError

_FEWEST = 20  # images of each kind
_PER_CELL = 50  # training tiles for each of C_T's cells, at most 10 cells
_IN_CELL = 5  # held-out and generated images below which a cell is left out
_CHUNK = 1024
_CUTS = 8  # of training and held-out tiles to equal numbers
_SHUFFLES = 100  # of patients between both, for chance; each goes through all distances

_AUTHENTIC = "AuthPct: Alaa et al. 2022, arXiv 2102.08921, section 4; between patients"
_COPYING = "C_T: Meehan et al. 2020, arXiv 2004.05675, section 4"
_COPIES = "less than half as far from a training tile as any other patient's tile is"

_SIDE = "share nearer to training than to held-out: Platzer and Reutterer 2021, arXiv 2104.00635"


def symmetries(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The four turns of square images [n, s, s, 3], and of their mirror images: [8, n, s, s, 3]."""
    turned = [np.rot90(images, turns, axes=(1, 2)) for turns in range(4)]
    return np.stack([*turned, *(view[:, :, ::-1] for view in turned)])


@dataclass(frozen=True)
class Views:
    """Images in all 8 symmetries, as features: views float32 [8, n, E]; patients [n]."""

    views: NDArray[np.float32]
    patients: Groups
    weights: Doubles  # [R, n]: bootstrap multiplicities


@dataclass(frozen=True)
class Nearest:
    """For each image the nearest of another set: distance float64 [n] and its row [n]."""

    distance: Doubles
    row: Groups


def apart(images: Views, tiles: Views) -> NDArray[np.float32]:
    """Distances [n, m] of images to tiles as they are, the smallest over the images' symmetries."""
    lying = tiles.views[0]
    matrix = np.empty((images.views.shape[1], len(lying)), np.float32)
    for start in range(0, len(matrix), _CHUNK):
        part = slice(start, start + _CHUNK)
        matrix[part] = np.min([distances(view[part], lying) for view in images.views], axis=0)
    return matrix


def nearest(matrix: NDArray[np.float32]) -> Nearest:
    """The nearest column of each row of distances [n, m]."""
    return Nearest(matrix.min(axis=1).astype(np.float64), matrix.argmin(axis=1).astype(np.int64))


def between_patients(tiles: Views) -> Nearest:
    """For each tile the nearest of another patient, over the symmetries.

    Raises `TooFewError` if all are one patient's.
    """
    if len(np.unique(tiles.patients)) < 2:
        raise TooFewError(
            "The training tiles are one patient's.", "Give tiles of at least two patients."
        )
    matrix = apart(tiles, tiles)
    matrix[tiles.patients[:, None] == tiles.patients] = np.inf
    return nearest(matrix)


@dataclass(frozen=True)
class Suspects:
    """What memorisation is measured on, in one feature space."""

    encoder: str
    training: Views
    held_out: Views  # of other patients
    generated: Views
    seed: int
    epsilon: float | None = None  # the bound of the adapter's ledger, per patient


@dataclass(frozen=True)
class Found:
    """Nearest training tiles of generated images and of held-out tiles; radius [n training]."""

    generated: Nearest
    held_out: Nearest
    radius: Doubles


def memorisation(suspects: Suspects) -> tuple[list[Figure], Found]:
    """AuthPct, copies and C_T, and the nearest training tile of each image.

    Raises `TooFewError` below 20 images of a kind or 2 training patients.
    """
    _check_numbers(suspects)
    radius = between_patients(suspects.training).distance
    to_training = apart(suspects.generated, suspects.training)
    to_held_out = apart(suspects.generated, suspects.held_out)
    mine = nearest(to_training)
    theirs = nearest(apart(suspects.held_out, suspects.training))
    figures = [
        _share(suspects, "authentic", (authentic(mine, radius), authentic(theirs, radius))),
        _share(suspects, "copies", (copied(mine, radius), copied(theirs, radius))),
        _copying_figure(suspects, mine, theirs),
        _side_figure(suspects, (to_training, to_held_out)),
    ]
    return figures, Found(mine, theirs, radius)


def _check_numbers(suspects: Suspects) -> None:
    kinds = ("training", "held_out", "generated")
    for kind in kinds:
        n = len(getattr(suspects, kind).patients)
        if n < _FEWEST:
            raise TooFewError(
                f"Memorisation needs {_FEWEST} {kind.replace('_', '-')} images; there are {n}.",
                "Give more images.",
            )


def authentic(images: Nearest, radius: Doubles) -> NDArray[np.bool_]:
    """[n]: no nearer to the nearest training tile than that tile is to other patients' tiles.

    True for about half of new images from the same kind of patients, and for far fewer copies.
    """
    return images.distance >= radius[images.row]


def copied(images: Nearest, radius: Doubles) -> NDArray[np.bool_]:
    """[n]: less than half as far from the nearest training tile as other patients' tiles are.

    The distance ratio of Carlini et al. 2023, arXiv 2301.13188, section 5.1, with that tile's
    nearest tile of another patient as its measure.
    """
    return images.distance < radius[images.row] / 2


def _share(
    suspects: Suspects, name: str, marks: tuple[NDArray[np.bool_], NDArray[np.bool_]]
) -> Figure:
    generated, held_out = (mark.astype(np.float64) for mark in marks)
    real = mean_interval(held_out, suspects.held_out.weights)
    value = mean_interval(generated, suspects.generated.weights)
    source = _AUTHENTIC if name == "authentic" else _COPIES
    beside = (Reference("held-out tiles", *real, len(held_out)),)
    return _figure(suspects, name, value, (source, beside))


def _figure(
    suspects: Suspects,
    name: str,
    value: tuple[float, float, float],
    words: tuple[str, tuple[Reference, ...]],
) -> Figure:
    source, beside = words
    if suspects.epsilon is not None:
        beside = (*beside, Reference("ε bound", suspects.epsilon))
    return Figure(
        name,
        suspects.encoder,
        *value,
        n_real=len(suspects.training.patients),
        n_generated=len(suspects.generated.patients),
        patients=len(np.unique(suspects.training.patients)),
        seed=suspects.seed,
        better="lower" if name == "copies" else "near",
        source=source,
        beside=beside,
    )


def _copying_figure(suspects: Suspects, mine: Nearest, theirs: Nearest) -> Figure:
    cells = partition(suspects.training.views[0], suspects.seed)
    value = copying(mine, theirs, cells, _once(mine, theirs))
    weights = (suspects.generated.weights, suspects.held_out.weights)
    spread = copying(mine, theirs, cells, weights)
    beside = (Reference("no copying", 0.0),)
    middle = float(value[0])
    return _figure(suspects, "copying", (middle, *interval(middle, spread)), (_COPYING, beside))


def _once(mine: Nearest, theirs: Nearest) -> tuple[Doubles, Doubles]:
    return np.ones((1, len(mine.row))), np.ones((1, len(theirs.row)))


def partition(training: Features, seed: int) -> Groups:
    """The cell [n] of each training tile: k-means, 1 to 10 cells."""
    cells = int(np.clip(len(training) // _PER_CELL, 1, 10))
    made = KMeans(cells, n_init=4, random_state=seed).fit(training.astype(np.float64))
    return np.asarray(made.labels_, np.int64)


def copying(
    mine: Nearest, theirs: Nearest, cells: Groups, weights: tuple[Doubles, Doubles]
) -> Doubles:
    """C_T [R] under multiplicities [R, n_generated], [R, n_held_out]; far below 0: copies.

    Per cell, the z-score of Mann and Whitney's U: pairs in which the generated image is farther
    from the training tiles than the held-out one. Averaged by each cell's share of the held-out
    tiles; cells with fewer than 5 of a kind are left out. An image's cell is its nearest tile's.
    Raises `TooFewError` if no cell is left.
    """
    sums, shares = np.zeros(len(weights[0])), np.zeros(len(weights[0]))
    for cell in np.unique(cells):
        generated, held_out = cells[mine.row] == cell, cells[theirs.row] == cell
        if min(generated.sum(), held_out.sum()) < _IN_CELL:
            continue
        farther = _farther(mine.distance[generated], theirs.distance[held_out])
        u, v = weights[0][:, generated], weights[1][:, held_out]
        m, n = u.sum(axis=1), v.sum(axis=1)
        above = np.einsum("ri,ri->r", u @ farther, v) - m * n / 2
        sums += n * above / np.sqrt(np.maximum(m * n * (m + n + 1) / 12, 1))
        shares += n
    if not shares.any():
        raise TooFewError(
            f"C_T needs {_IN_CELL} held-out and generated images near the same training tiles.",
            "Give more images.",
        )
    unknown = np.full(len(sums), np.nan)
    return np.asarray(np.divide(sums, shares, out=unknown, where=shares > 0))


def _side_figure(suspects: Suspects, sides: Sides) -> Figure:
    """Next to chance: the patients of both sides, shuffled between them many times."""
    rng = np.random.default_rng([suspects.seed, 8])
    share = np.mean([nearer_training(*_equal(sides, rng)) for _ in range(_CUTS)], axis=0)
    both = np.concatenate(sides, axis=1)
    first = int(suspects.training.patients.max()) + 1  # the two sides have no patient in common
    owners = np.concatenate([suspects.training.patients, suspects.held_out.patients + first])
    shuffled = (halves(owners, rng) for _ in range(_SHUFFLES))
    by_chance = [nearer_training(both[:, one], both[:, two]).mean() for one, two in shuffled]
    beside = (Reference("chance", float(np.mean(by_chance)), *percentiles(np.array(by_chance))),)
    value = mean_interval(share, suspects.generated.weights)
    return _figure(suspects, "nearer_training", value, (_SIDE, beside))


Sides = tuple[NDArray[np.float32], NDArray[np.float32]]  # distances to training, to held-out tiles


def _equal(sides: Sides, rng: np.random.Generator) -> Sides:
    """The same number of random columns of both."""
    size = min(side.shape[1] for side in sides)
    first, second = (side[:, rng.permutation(side.shape[1])[:size]] for side in sides)
    return first, second


def nearer_training(training: NDArray[np.float32], held_out: NDArray[np.float32]) -> Doubles:
    """[n]: 1 where the nearest of equally many training and held-out tiles is a training tile.

    From distances [n, m] to each; ties count half. Mean 1/2 without memorisation, also for images
    that are nearer to all tiles than tiles are to each other, which C_T suspects.
    """
    apart_by = held_out.min(axis=1) - training.min(axis=1)
    return np.asarray((np.sign(apart_by) + 1) / 2, np.float64)


def _farther(mine: Doubles, theirs: Doubles) -> Doubles:
    """[n, m]: 1 where a generated image is farther than a held-out one, 1/2 for ties."""
    apart = mine[:, None] - theirs[None, :]
    return np.asarray((np.sign(apart) + 1) / 2)

"""Are generated pictures nearer to single tiles than new patients' tiles would be? Pure.

A picture counts as a *copy* if it lies less than half as far from a tile as any other patient's
tile does (after Carlini et al. 2023, arXiv 2301.13188, section 5.1), over the 8 turns and mirror
images. How often that happens to pictures of nobody is not zero, so each of the site's own patients
in turn plays the one who is new: their tiles against those of all others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.arrays import Doubles
from model.lab.evaluation.memorisation import Nearest, Views, apart, nearest
from model.lab.evaluation.patients import mean_interval
from model.quality.alignment import TooFewError

MemorisationVerdict: TypeAlias = Literal["copies", "look", "no sign"]

FEWEST_OWN_PATIENTS: Final = 10
FEWEST_PICTURES: Final = 20
_CLOSEST: Final = 10  # pairs that a person should look at
_COPY: Final = 0.5  # ratio of distances below which a picture is a copy
_WRONG: Final = 0.025  # the chance that the exact bound of a share is too low


@dataclass(frozen=True, slots=True)
class ShareOfCopies:
    """A share, with the 95 % interval of a bootstrap over patients.

    Of new patients its upper end is no lower than if no patient of so many had shown a copy.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClosePair:
    """A generated picture, the tile that it is nearest to, and the ratio; below 1/2: a copy."""

    picture: int
    tile: int
    ratio: float


@dataclass(frozen=True, slots=True)
class CopyComparison:
    """What was found in one feature space."""

    space: str
    generated: ShareOfCopies
    new_patients: ShareOfCopies
    closest: tuple[ClosePair, ...]
    least_new: float  # the smallest ratio of any new patient's tile

    @property
    def verdict(self) -> MemorisationVerdict:
        """ "copies" where the two intervals do not touch; "look" where a single picture is less
        than half as far from its tile as any new patient's tile was from its own.
        """
        if self.generated.low > self.new_patients.high:
            return "copies"
        return "look" if self.closest[0].ratio < self.least_new / 2 else "no sign"


def compared(space: str, tiles: Views, pictures: Views) -> CopyComparison:
    """Generated `pictures` against the `tiles` that may have been learnt by heart.

    A picture belongs to the patient whose caption it was drawn from. Raises `TooFewError` below 10
    patients or 20 pictures.
    """
    patients = len(np.unique(tiles.patients))
    if patients < FEWEST_OWN_PATIENTS or pictures.views.shape[1] < FEWEST_PICTURES:
        raise TooFewError(
            f"{patients} patients and {pictures.views.shape[1]} pictures say nothing.",
            f"There must be {FEWEST_OWN_PATIENTS} patients with a usable tile, and --pictures "
            f"{FEWEST_PICTURES} or more.",
        )
    between = apart(tiles, tiles)
    radius = _radius(between, tiles.patients)
    mine = nearest(apart(pictures, tiles))
    ratios, new = _ratios(mine, radius), _as_new(between, tiles.patients)
    order = np.argsort(ratios)[:_CLOSEST]
    return CopyComparison(
        space,
        _share(ratios, pictures.weights),
        _at_least_exact(_share(new, tiles.weights), patients),
        tuple(ClosePair(int(one), int(mine.row[one]), float(ratios[one])) for one in order),
        float(new.min()),
    )


def _radius(between: NDArray[np.float32], patients: NDArray[np.int64]) -> Doubles:
    """[n]: how far each tile is from the nearest of another patient."""
    others = np.where(patients[:, None] == patients, np.inf, between)
    return np.asarray(others.min(axis=1), np.float64)


def _ratios(near: Nearest, radius: Doubles) -> Doubles:
    """[n]: how far each is from its nearest tile, over how far other patients' tiles are."""
    return np.asarray(near.distance / np.maximum(radius[near.row], np.finfo(np.float64).tiny))


def _as_new(between: NDArray[np.float32], patients: NDArray[np.int64]) -> Doubles:
    """[n]: the ratio of each tile if its patient were not among the others."""
    found = np.zeros(len(patients))
    for patient in np.unique(patients):
        own, left = patients == patient, np.flatnonzero(patients != patient)
        radius = _radius(between[np.ix_(left, left)], patients[left])
        distances = between[np.ix_(own, left)]
        near = Nearest(distances.min(axis=1).astype(np.float64), distances.argmin(axis=1))
        found[own] = _ratios(near, radius)
    return found


def _share(ratios: Doubles, weights: Doubles) -> ShareOfCopies:
    return ShareOfCopies(*mean_interval((ratios < _COPY).astype(np.float64), weights))


def _at_least_exact(share: ShareOfCopies, patients: int) -> ShareOfCopies:
    """With an upper end that few patients allow: resampling zeros gives nothing but zeros."""
    return replace(share, high=max(share.high, 1 - _WRONG ** (1 / patients)))

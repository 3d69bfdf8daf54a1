"""Mask fidelity: do samples show the nuclei in their masks?

Each sample is segmented without a network and compared with its own mask, with another image's
mask (the shuffled control: agreement by chance, by density and size alone). Real tiles are compared
with their own masks too (the ceiling of this segmentation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from model.arrays import Doubles
from model.lab.control.agreement import MEASURES, Instances, instance_agreement
from model.lab.control.segmentation import segment
from privacy.errors import ModelError

_RESAMPLES = 2000
_LEVEL = 95.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over images and its 95 % percentile-bootstrap interval (Efron 1979)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Fidelity:
    """Per comparison ("own", "shuffled", "own - shuffled", and "ceiling" if real tiles were
    given), an estimate of each of MEASURES; images: their number; seed: of shuffle and bootstrap.
    """

    images: int
    seed: int
    estimates: Mapping[str, Mapping[str, Estimate]]

    def rows(self) -> list[dict[str, object]]:
        """One flat row per comparison and measure, as for JSON."""
        return [
            {"comparison": comparison, "measure": measure, "images": self.images, "seed": self.seed}
            | asdict(estimate)
            for comparison, table in self.estimates.items()
            for measure, estimate in table.items()
        ]

    def report(self) -> str:
        """A table for people."""
        lines = [f"{self.images} images; mean (95 % interval)"]
        lines.append(f"{'':<16}" + "".join(f"{measure:>24}" for measure in MEASURES))
        for comparison, table in self.estimates.items():
            cells = (f"{e.mean:+.3f} ({e.low:+.3f}, {e.high:+.3f})" for e in table.values())
            lines.append(f"{comparison:<16}" + "".join(f"{cell:>24}" for cell in cells))
        return "\n".join(lines)


def mask_fidelity(
    images: NDArray[np.uint8],
    masks: Sequence[Instances],
    *,
    groups: Sequence[object] | None = None,
    real: NDArray[np.uint8] | None = None,
    seed: int = 0,
) -> Fidelity:
    """Score samples uint8 [n, s, s, 3] against instance masks [s, s], one each.

    groups [n]: masks are shuffled only within equal values, such as a morphology, which makes the
    control stricter. real uint8 [n, s, s, 3]: the tiles that the masks belong to. Raises
    `ModelError` for fewer than two images, a group of one, or sizes that do not fit.
    """
    _check(images, masks, real)
    others = shuffled(groups if groups is not None else [0] * len(images), seed)
    found = [segment(image) for image in images]
    scores = {
        "own": _scores(masks, found),
        "shuffled": _scores([masks[other] for other in others], found),
    }
    scores["own - shuffled"] = scores["own"] - scores["shuffled"]
    if real is not None:
        scores["ceiling"] = _scores(masks, [segment(image) for image in real])
    estimates = {name: _estimates(table, seed) for name, table in scores.items()}
    return Fidelity(len(images), seed, MappingProxyType(estimates))


def shuffled(groups: Sequence[object], seed: int) -> list[int]:
    """For each position another of its group: a random cycle through each group.

    Raises `ModelError` for a group of one.
    """
    rng = np.random.default_rng([seed, 7])
    partner = list(range(len(groups)))
    for group in dict.fromkeys(groups):
        members = rng.permutation([i for i, own in enumerate(groups) if own == group]).tolist()
        if len(members) < 2:
            raise ModelError(
                "A group of one image has no other mask to compare with.",
                "Give each group at least two images.",
            )
        for own, other in zip(members, members[1:] + members[:1], strict=True):
            partner[own] = other
    return partner


def estimate(values: Doubles, seed: int) -> Estimate:
    """Mean of values [n] and its bootstrap interval over the images."""
    rng = np.random.default_rng([seed, 8])
    means = values[rng.integers(len(values), size=(_RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(means, [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2])
    return Estimate(float(values.mean()), float(low), float(high))


def _scores(masks: Sequence[Instances], found: Sequence[Instances]) -> Doubles:
    """[n, len(MEASURES)]."""
    pairs = zip(masks, found, strict=True)
    compared = [instance_agreement(np.asarray(mask, np.int32), own) for mask, own in pairs]
    return np.array([[getattr(one, measure) for measure in MEASURES] for one in compared])


def _estimates(table: Doubles, seed: int) -> Mapping[str, Estimate]:
    columns = {m: estimate(table[:, k], seed) for k, m in enumerate(MEASURES)}
    return MappingProxyType(columns)


def _check(
    images: NDArray[np.uint8], masks: Sequence[Instances], real: NDArray[np.uint8] | None
) -> None:
    if len(images) < 2:
        raise ModelError(
            f"{len(images)} images are too few for a shuffled control.", "Give at least two."
        )
    if len(images) != len(masks) or any(mask.shape != images.shape[1:3] for mask in masks):
        raise ModelError(
            f"{len(masks)} masks for {len(images)} images, or of another size.",
            "Give each image the mask it was drawn with, at its own size.",
        )
    if real is not None and real.shape != images.shape:
        raise ModelError("Real tiles and samples differ in number or size.", "Give one for each.")

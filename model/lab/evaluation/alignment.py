"""Alignment, retrieval and agreement of images and captions, next to those of real tiles."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from model.arrays import Doubles, Features, Groups
from model.lab.evaluation.figures import Better, Figure, ImageSet, Reference
from model.lab.evaluation.patients import mean_interval
from model.quality.alignment import (
    CaptionAlignment,
    TooFewError,
    caption_alignment,
    cosines,
    other_captions,
)

RANKS = (1, 5, 10)
_CLIPSCORE = "cosine as in Hessel et al. 2021, arXiv 2104.08718, unscaled"
_RETRIEVAL = "R@k as in Radford et al. 2021, arXiv 2103.00020, over distinct captions"
_AGREEMENT = "profile agreement: Pearson over public phrases, centred on the real images"


@dataclass(frozen=True)
class CaptionedImages:
    """Images in an image-text space, with the captions they were drawn for.

    images [n, E]; texts [C, E] of the distinct captions; own int64 [n]: which of them; weights
    float64 [R, n]: bootstrap multiplicities.
    """

    images: Features
    texts: Features
    own: Groups
    patients: Groups
    weights: Doubles

    def similarities(self) -> Doubles:
        """Cosines [n, C]."""
        return cosines(self.images, self.texts)


@dataclass(frozen=True)
class Judged:
    """Who judged whom: the fields that all figures of alignment share."""

    encoder: str
    real: ImageSet
    generated: ImageSet
    seed: int

    def figure(
        self,
        metric: str,
        value: tuple[float, float, float],
        source: str,
        beside: tuple[Reference, ...],
        better: Better = "higher",
    ) -> Figure:
        """With this evaluation's encoder, numbers and seed; value is (mean, low, high)."""
        return Figure(
            metric,
            self.encoder,
            *value,
            n_real=len(self.real),
            n_generated=len(self.generated),
            patients=len(np.unique(self.real.patients)),
            seed=self.seed,
            better=better,
            source=source,
            beside=beside,
        )


def alignment(judged: Judged, generated: CaptionedImages, real: CaptionedImages) -> list[Figure]:
    """Mean cosine of image and own caption, and by how much it exceeds that of a shuffled caption.

    The shuffled caption is another patient's, and another text. If the whole interval is above 0,
    images follow captions. Raises `TooFewError` if nothing can be shuffled.
    """
    mine, theirs = _aligned(generated, judged.seed), _aligned(real, judged.seed)
    beside = (
        _reference("shuffled captions", mine.shuffled, generated),
        _reference("real tiles", theirs.own, real),
    )
    real_gain = _reference("real tiles", theirs.gain, real)
    weights = generated.weights
    return [
        judged.figure("alignment", mean_interval(mine.own, weights), _CLIPSCORE, beside),
        judged.figure(
            "alignment_gain", mean_interval(mine.gain, weights), _CLIPSCORE, (real_gain,)
        ),
    ]


def _aligned(table: CaptionedImages, seed: int) -> CaptionAlignment:
    rng = np.random.default_rng([seed, 3])
    return caption_alignment(table.similarities(), table.own, table.patients, rng)


def _reference(name: str, values: Doubles, of: CaptionedImages) -> Reference:
    return Reference(name, *mean_interval(values, of.weights), len(values))


def retrieval(judged: Judged, generated: CaptionedImages, real: CaptionedImages) -> list[Figure]:
    """R@1, 5 and 10 in both directions, next to the real tiles' and to chance.

    Only ranks below the number of candidates; raises `TooFewError` if there is none.
    """
    ranks = [k for k in RANKS if k < len(generated.texts)]
    if not ranks:
        raise TooFewError("Retrieval needs two distinct captions.", "Give more captions.")
    figures = []
    for k in ranks:
        beside = (
            _reference("real tiles", caption_hits(real, k), real),
            Reference("chance", k / len(generated.texts)),
        )
        value = mean_interval(caption_hits(generated, k), generated.weights)
        figures.append(judged.figure(f"image_to_text_r{k}", value, _RETRIEVAL, beside))
    for k in ranks:
        beside = (
            Reference("real tiles", *_image_recall(real, k), len(real.texts)),
            Reference("chance", chance_of_image(generated.own, k)),
        )
        value = _image_recall(generated, k)
        figures.append(judged.figure(f"text_to_image_r{k}", value, _RETRIEVAL, beside))
    return figures


def caption_hits(table: CaptionedImages, k: int) -> Doubles:
    """[n]: chance that an image's own caption is among the k nearest; ties broken evenly."""
    found = table.similarities()
    own = found[np.arange(len(found)), table.own][:, None]
    nearer, equal = (found > own).sum(axis=1), (found == own).sum(axis=1)
    return np.asarray(np.clip((k - nearer) / equal, 0, 1), np.float64)


def image_hits(table: CaptionedImages, k: int) -> Doubles:
    """[C]: whether one of a caption's own images is among the k nearest; NaN without images.

    Ties count as if the own image came last, so an encoder that says nothing scores 0.
    """
    found = table.similarities()
    hits = np.full(len(table.texts), np.nan)
    for caption in np.unique(table.own):
        mine = table.own == caption
        best = found[mine, caption].max()
        others = found[~mine, caption]
        hits[caption] = float((others >= best).sum() < k)
    return hits


def _image_recall(table: CaptionedImages, k: int) -> tuple[float, float, float]:
    """Captions come and go with their images: weighted by the mean multiplicity of those."""
    hits = image_hits(table, k)
    used = np.isfinite(hits)
    member = (table.own[:, None] == np.flatnonzero(used)).astype(np.float64)
    return mean_interval(hits[used], table.weights @ (member / member.sum(axis=0)))


def chance_of_image(own: Groups, k: int) -> float:
    """Mean chance that k random images hold one of a caption's own m of n."""
    _, counts = np.unique(own, return_counts=True)
    n = len(own)
    return float(np.mean([1 - comb(n - m, k) / comb(n, k) for m in map(int, counts)]))


def profile_agreement(
    judged: Judged, generated: CaptionedImages, real: CaptionedImages, phrases: Features
) -> list[Figure]:
    """Pearson correlation of profiles over P phrases [P, E]: generated against real tiles.

    An image's profile is its cosines with the phrases, z-scored phrase by phrase over the real
    images (raw cosines of any two images correlate near 1). A generated image is compared
    with the mean profile of the real tiles with its caption; control: with another patient's
    caption. The real tiles' own figure compares them with other patients' tiles of that caption.
    Raises `TooFewError` for fewer than 3 phrases, or captions that no real tile has.
    """
    if len(phrases) < 3:
        raise TooFewError("A profile needs 3 phrases.", "Give more phrases.")
    used = np.isin(generated.own, real.own)
    if not used.any():
        raise TooFewError(
            "No generated image has a real tile's caption.", "Sample with the real captions."
        )
    real_profiles = cosines(real.images, phrases)
    centre, scale = real_profiles.mean(axis=0), real_profiles.std(axis=0) + 1e-12
    theirs = (real_profiles - centre) / scale
    mine = ((cosines(generated.images, phrases) - centre) / scale)[used]
    of = np.stack([theirs[real.own == c].mean(axis=0) for c in generated.own[used]])
    rng = np.random.default_rng([judged.seed, 4])
    other = other_captions(generated.own[used], generated.patients[used], rng)
    weights = generated.weights[:, used]
    shuffled = mean_interval(profile_correlations(mine, of[other]), weights)
    beside = (Reference("shuffled captions", *shuffled, len(mine)), *_real_agreement(theirs, real))
    value = mean_interval(profile_correlations(mine, of), weights)
    return [judged.figure("semantic_agreement", value, _AGREEMENT, beside)]


def _real_agreement(theirs: Doubles, real: CaptionedImages) -> tuple[Reference, ...]:
    """For tiles whose caption another patient has too; empty if there is none."""
    values, rows = [], []
    for row in range(len(theirs)):
        others = (real.own == real.own[row]) & (real.patients != real.patients[row])
        if others.any():
            values.append(profile_correlations(theirs[[row]], theirs[others].mean(axis=0)[None])[0])
            rows.append(row)
    if not rows:
        return ()
    mean = mean_interval(np.array(values), real.weights[:, rows])
    return (Reference("other real patients", *mean, len(rows)),)


def profile_correlations(x: Doubles, y: Doubles) -> Doubles:
    """Row by row, [n, P] with [n, P] to [n]; 0 where a row is constant."""
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return np.asarray(
        np.divide((x * y).sum(axis=1), lengths, out=np.zeros(len(x)), where=lengths > 0)
    )

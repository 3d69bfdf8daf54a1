"""Hand-made measurements of a tile that distinguish morphologies, whatever the stain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from model.arrays import Doubles
from model.lab.tissue.appearance import EOSIN, HAEMATOXYLIN

_EPSILON = 1e-6


def unmix(images: NDArray[np.uint8]) -> tuple[Doubles, Doubles]:
    """Haematoxylin and eosin [n, s, s] of images [n, s, s, 3], each scaled by its own range.

    Least squares in optical density against Ruifrok and Johnston's vectors; dividing by the
    99th percentile removes how strongly a slide was stained.
    """
    density = -np.log((images.astype(np.float64) + 1) / 256)
    density -= np.minimum(density.min(axis=(1, 2), keepdims=True), 0.25)  # empty glass is not white
    mix = np.array([HAEMATOXYLIN, EOSIN])
    stains = density @ np.linalg.pinv(mix / np.linalg.norm(mix, axis=1, keepdims=True))
    top = np.percentile(stains, 99, axis=(1, 2), keepdims=True)
    scaled = np.clip(stains / np.maximum(top, 0.15), 0, 1.5)
    return scaled[..., 0], scaled[..., 1]


def _spread(values: Doubles) -> Doubles:
    """Mean, deviation and five percentiles over each image: [n, 7]."""
    flat = values.reshape(len(values), -1)
    percentiles = np.percentile(flat, [5, 25, 50, 75, 95], axis=1).T
    return np.column_stack([flat.mean(axis=1), flat.std(axis=1), percentiles])


def _spectrum(values: Doubles) -> Doubles:
    """Log power in ten rings of frequency, and how much one direction dominates: [n, 11]."""
    size = values.shape[1]
    window = np.hanning(size)[:, None] * np.hanning(size)
    centred = (values - values.mean(axis=(1, 2), keepdims=True)) * window
    power = np.abs(np.fft.fft2(centred)) ** 2
    fy, fx = np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size), indexing="ij")
    ring = np.minimum((np.hypot(fy, fx) * 24).astype(int), 10)
    total = power.sum(axis=(1, 2)) + _EPSILON
    shares = [power[:, ring == k].sum(axis=1) / total for k in range(10)]
    turned = np.abs((power * np.exp(2j * np.arctan2(fy, fx))).sum(axis=(1, 2))) / total
    return np.column_stack([np.log(np.array(shares).T + 1e-4), turned])


def _orientation(values: Doubles, scale: float) -> Doubles:
    """Coherence of the structure tensor, within neighbourhoods and over the image: [n, 3]."""
    smooth = ndimage.gaussian_filter(values, (0, 0.8, 0.8))
    gy, gx = np.gradient(smooth, axis=(1, 2))
    parts = [gx * gx - gy * gy, 2 * gx * gy, gx * gx + gy * gy]
    local = [ndimage.gaussian_filter(part, (0, scale, scale)) for part in parts]
    coherence = np.hypot(local[0], local[1]) / (local[2] + 1e-4)
    overall = [part.mean(axis=(1, 2)) for part in parts]
    whole = np.hypot(overall[0], overall[1]) / (overall[2] + _EPSILON)
    return np.column_stack([coherence.mean(axis=(1, 2)), coherence.std(axis=(1, 2)), whole])


def _objects(binary: NDArray[np.bool_]) -> Doubles:
    """Number, share, mean and greatest log area of each image's connected parts: [n, 4]."""
    rows = []
    for image in binary:
        labels, count = ndimage.label(image)
        areas = np.bincount(labels.ravel())[1:] if count else np.zeros(1)
        rows.append([count, image.mean(), np.log1p(areas.mean()), np.log1p(areas.max())])
    return np.asarray(rows, dtype=np.float64)


def _differences(values: Doubles) -> Doubles:
    """Log mean square difference at distances 1, 2, 3, 5 and 8 pixels (a variogram): [n, 5]."""
    steps = (1, 2, 3, 5, 8)
    across = [((values[:, :, d:] - values[:, :, :-d]) ** 2).mean(axis=(1, 2)) for d in steps]
    down = [((values[:, d:] - values[:, :-d]) ** 2).mean(axis=(1, 2)) for d in steps]
    return np.asarray(np.log(np.array(across).T + np.array(down).T + 1e-4))


def features(images: NDArray[np.uint8]) -> Doubles:
    """Measurements [n, 70] of images uint8 [n, s, s, 3]: stains, texture, direction, objects."""
    h, e = unmix(images)
    light = images.astype(np.float64).mean(axis=3) / 255
    light = light / np.maximum(np.percentile(light, 99.5, axis=(1, 2), keepdims=True), 0.3)
    colour = np.log(images.reshape(len(images), -1, 3).mean(axis=1) + 1.0)
    return np.column_stack(
        [
            _spread(h),
            _spread(e),
            _spread(light),
            colour[:, 0] - colour[:, 1],
            colour[:, 2] - colour[:, 1],
            (h * e).mean(axis=(1, 2)),
            _spectrum(h),
            _spectrum(light),
            _orientation(light, 2.5),
            _orientation(light, 6.0),
            _objects(h > 0.6),
            _objects(light > 0.93),
            _differences(h),
            _differences(e),
        ]
    )

"""Find the nuclei of an H&E tile without a network: stain deconvolution, Otsu, watershed.

It knows nothing about any model, so it can judge whether a sample follows its mask. It is not a
good segmenter: compare its scores with those of real tiles against their own masks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import color, feature, filters, segmentation

# scikit-image is partly annotated, which a strict checker treats as unannotated
_rgb2hed: Any = color.rgb2hed
_threshold_otsu: Any = filters.threshold_otsu
_peak_local_max: Any = feature.peak_local_max
_watershed: Any = segmentation.watershed

_SMOOTH = 0.3  # pixels, before the threshold
_SEED_SMOOTH = 0.5  # pixels, of the depth whose peaks are the seeds
_LEAST_AREA = 4  # pixels


def haematoxylin(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Concentration [h, w] of an image [h, w, 3], by Ruifrok and Johnston's (2001) vectors."""
    return np.asarray(ndimage.gaussian_filter(_rgb2hed(image)[..., 0], _SMOOTH))


def segment(image: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Instances [h, w] of an image [h, w, 3]: 0 background, each nucleus its own number.

    Otsu's threshold on haematoxylin; then a watershed from the peaks of depth and stain.
    """
    stain = haematoxylin(image)
    low, high = float(stain.min()), float(stain.max())
    if high - low < 1e-6:  # nothing but glass
        return np.zeros(stain.shape, np.int32)
    inside = _large(stain > _threshold_otsu(stain))
    depth = ndimage.distance_transform_edt(inside)
    height = ndimage.gaussian_filter(depth, _SEED_SMOOTH) + (stain - low) / (high - low)
    peaks = _peak_local_max(
        height, min_distance=1, labels=inside.astype(np.int32), exclude_border=False
    )
    seeds = np.zeros(stain.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(_watershed(-height, seeds, mask=inside), np.int32)


def _large(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without connected parts of fewer than `_LEAST_AREA` pixels."""
    parts, _ = ndimage.label(inside)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return np.asarray(areas[parts] >= _LEAST_AREA)

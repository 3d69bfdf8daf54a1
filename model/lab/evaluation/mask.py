"""Do images drawn with a control show their masks' nuclei? See `model.lab.control.fidelity`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.lab.control.fidelity import mask_fidelity
from model.lab.evaluation.figures import Figure, ImageSet, Reference
from model.quality.alignment import TooFewError

_SOURCE = "segmented without a network; bootstrap over images"
_FEWEST = 2


def mask_figures(generated: ImageSet, masks: NDArray[np.int64], seed: int) -> list[Figure]:
    """Agreement of images with their own masks int64 [n, s, s], next to another image's mask.

    Raises `TooFewError` for a single image.
    """
    if len(generated) < _FEWEST:
        raise TooFewError("Mask fidelity needs 2 images.", "Give more images.")
    estimates = mask_fidelity(generated.images, list(masks), seed=seed).estimates
    figures = []
    for measure, own in estimates["own"].items():
        other = estimates["shuffled"][measure]
        control = Reference("shuffled masks", other.mean, other.low, other.high, len(generated))
        figures.append(
            Figure(
                f"mask_{measure}",
                "-",
                own.mean,
                own.low,
                own.high,
                n_real=0,
                n_generated=len(generated),
                patients=0,
                seed=seed,
                better="higher",
                source=_SOURCE,
                beside=(control,),
            )
        )
    return figures

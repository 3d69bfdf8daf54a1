"""Conditions: what a ControlNet sees of a mask or of fluorescence, float32 [C, s, s] in 0..1.

Rules of size: labels are resized to the nearest pixel, so that no new label appears, and boundary
and distance are computed after that; markers are averaged. A picture that is not square like the
model's is refused, or its largest centred square is used (`fit="crop"`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from model.arrays import Singles
from model.lab.control.markers import normalised, read_markers
from model.lab.control.nuclear_mask import NuclearMask
from model.lab.control.spec import UNTYPED, ControlSpec
from privacy.errors import ModelError

Fit = Literal["resize", "crop"]
_ASPECT = 0.01  # relative difference of sides that resizing may hide


def read_marker_condition(path: Path, spec: ControlSpec, *, fit: Fit = "resize") -> torch.Tensor:
    """The condition [C, s, s] of a fluorescence file."""
    return marker_condition(resized_markers(read_markers(path), spec.size, fit), spec)


def mask_condition(mask: NuclearMask, spec: ControlSpec) -> torch.Tensor:
    """One-hot types, boundary and distance of a mask [s, s]; the markers' channels are 0.

    A control of untyped nuclei accepts every mask. Raises `ModelError` if the mask has types that
    the control was not trained on, or another size.
    """
    if not spec.types:
        raise ModelError("This control takes fluorescence only.", "Use one trained on masks.")
    if mask.instances.shape != (spec.size, spec.size):
        raise ModelError(
            f"A mask of {mask.instances.shape} for a control of {spec.size} px.", "Resize it."
        )
    planes = np.zeros((spec.channels, spec.size, spec.size), np.float32)
    planes[: len(spec.types)] = _one_hot(mask, spec)
    planes[len(spec.types)] = boundary(mask.instances)
    planes[len(spec.types) + 1] = distance(mask.instances)
    return torch.from_numpy(planes)


def marker_condition(markers: Singles, spec: ControlSpec) -> torch.Tensor:
    """Percentile-normalised markers [m, s, s] in their channels; the others are 0."""
    if not spec.markers:
        raise ModelError("This control takes masks only.", "Use one trained on fluorescence.")
    if len(markers) != len(spec.markers):
        raise ModelError(
            f"The image has {len(markers)} markers; the control takes {len(spec.markers)}: "
            f"{', '.join(spec.markers)}.",
            "Give an image of exactly these channels.",
        )
    planes = np.zeros((spec.channels, spec.size, spec.size), np.float32)
    planes[spec.first_marker :] = normalised(markers)
    return torch.from_numpy(planes)


def resized_mask(mask: NuclearMask, size: int, fit: Fit = "resize") -> NuclearMask:
    """The mask at size x size pixels, to the nearest pixel's label."""
    top, left, height, width = _window(mask.instances.shape, size, fit)
    rows = top + _centres(height, size)
    columns = left + _centres(width, size)
    grid = np.ix_(rows, columns)
    return NuclearMask(mask.instances[grid], mask.types[grid], mask.names)


def resized_markers(markers: Singles, size: int, fit: Fit = "resize") -> Singles:
    """Markers [m, h, w] at [m, size, size]: box-averaged."""
    top, left, height, width = _window(markers.shape[1:], size, fit)
    box = (left, top, left + width, top + height)
    planes = [
        np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BOX, box=box))
        for plane in markers
    ]
    return np.stack(planes).astype(np.float32)


def boundary(instances: NDArray[np.int32]) -> Singles:
    """1 on the pixels of a nucleus [s, s] that touch (4 neighbours) another label; else 0."""
    edge = np.zeros(instances.shape, bool)
    down, right = instances[1:] != instances[:-1], instances[:, 1:] != instances[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return (edge & (instances > 0)).astype(np.float32)


def distance(instances: NDArray[np.int32]) -> Singles:
    """Depth within each nucleus [s, s]: its rim has 1 / its greatest depth, its middle 1.

    Euclidean, in pixels from the nearest boundary, plus 1; divided by the nucleus' greatest.
    """
    inside = instances > 0
    if not inside.any():
        return np.zeros(instances.shape, np.float32)
    core = inside & (boundary(instances) == 0)
    # if a single nucleus fills the whole picture, there is no distance to measure
    depth = ndimage.distance_transform_edt(core) + 1 if not core.all() else np.ones(core.shape)
    _, at = np.unique(instances, return_inverse=True)
    at = at.reshape(instances.shape)
    deepest = np.zeros(at.max() + 1)
    np.maximum.at(deepest, at, depth)
    return np.where(inside, depth / deepest[at], 0).astype(np.float32)


def _one_hot(mask: NuclearMask, spec: ControlSpec) -> Singles:
    if spec.types == UNTYPED:
        return (mask.instances > 0)[None].astype(np.float32)
    if not mask.names:
        raise ModelError(
            f"The mask has no nucleus types; the control needs {', '.join(spec.types)}.",
            "Give a typed mask (PanNuke, CoNSeP, Lizard), or use an untyped control.",
        )
    present = [mask.names[k - 1] for k in np.unique(mask.types[mask.types > 0]).tolist()]
    unknown = sorted(set(present) - set(spec.types))
    if unknown:
        raise ModelError(
            f"The control was not trained on nuclei called {', '.join(unknown)}.",
            f"It knows {', '.join(spec.types)}.",
        )
    index = [mask.names.index(name) + 1 if name in mask.names else -1 for name in spec.types]
    return np.stack([mask.types == k for k in index]).astype(np.float32)


def _window(shape: tuple[int, ...], size: int, fit: Fit) -> tuple[int, int, int, int]:
    """Top, left, height and width of the part used. Raises `ModelError` as `fit` says."""
    height, width = shape
    side = min(height, width)
    if fit == "crop":
        return (height - side) // 2, (width - side) // 2, side, side
    if max(height, width) - side > _ASPECT * side:
        raise ModelError(
            f"The condition is {width} x {height} px; the model draws {size} x {size}.",
            "Cut out squares; craftsfl model sample takes the centred one with --fit crop.",
        )
    return 0, 0, height, width


def _centres(length: int, size: int) -> NDArray[np.int64]:
    """Which of `length` pixels are under the centres of `size` new ones: int64 [size]."""
    return np.minimum(((np.arange(size) + 0.5) * length / size).astype(np.int64), length - 1)

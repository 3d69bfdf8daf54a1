"""Nuclear masks as published: instance images, PanNuke's arrays, CoNSeP's and Lizard's .mat files.

Every reader returns a `NuclearMask`. Nothing is unpickled: an array that would need it, or a file
that is not what its name says, raises `ModelError`.
"""

from __future__ import annotations

import struct
import tokenize
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from model.lab.control.matfile import read_mat
from model.lab.control.nuclear_mask import MASK_HINT, MOST_PIXELS, NuclearMask, instance_map
from model.pictures import UnreadablePicture, check_single, open_picture
from privacy.errors import ModelError

# The first five of PanNuke's six channels (Gamper et al. 2020); the sixth is the background.
PANNUKE_TYPES = ("neoplastic", "inflammatory", "connective", "dead", "epithelial")
_IMAGES = (".png", ".tif", ".tiff")
_GREY = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F")
# What reading numpy and .mat files raises for damaged bytes (found by altering files).
DAMAGED = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
)


def read_mask(path: Path, *, index: int = 0) -> NuclearMask:
    """Read one mask; `index` chooses among the N of a PanNuke array [N, h, w, 6].

    A two-valued image (0 and 255, say) holds no instances: its connected parts become nuclei.
    Raises `ModelError` for a missing, damaged or unknown file.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ModelError(f"The mask {path} is not a file.", "Give the path of one mask.")
    if suffix in _IMAGES:
        return NuclearMask.untyped(_split(_read_image(path)))
    if suffix == ".npy":
        return _read_pannuke(path, index)
    if suffix == ".mat":
        return read_mat(path)
    raise ModelError(f"{path.name}: masks of type {suffix or 'unknown'} are not read.", MASK_HINT)


def count_masks(path: Path) -> int:
    """How many masks a file holds: N for a PanNuke array, else 1."""
    return len(_pannuke(path)) if path.suffix.lower() == ".npy" else 1


def _read_image(path: Path) -> NDArray[np.generic]:
    try:
        with open_picture(path, most=MOST_PIXELS) as image:
            check_single(image)
            if image.mode not in _GREY:
                raise ModelError(
                    f"{path.name} is a colour picture ({image.mode}), not a mask.",
                    "Give the instance mask: one channel, 0 for background, k for nucleus k.",
                )
            return np.asarray(image)
    except UnreadablePicture as error:
        raise ModelError(f"The mask {path.name} cannot be read: {error}.", MASK_HINT) from None


def _split(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Number the connected parts (4 neighbours) of an image with one value other than 0."""
    if len(np.unique(values[values != 0])) != 1:
        return values
    parts: NDArray[np.int32] = ndimage.label(values != 0)[0]
    return parts


def _read_pannuke(path: Path, index: int) -> NuclearMask:
    array = _pannuke(path)
    if not 0 <= index < len(array):
        raise ModelError(
            f"{path.name} holds {len(array)} masks; number {index} does not exist.",
            f"Choose 0 to {len(array) - 1}.",
        )
    return _merge_channels(np.asarray(array[index]))


def _pannuke(path: Path) -> NDArray[np.generic]:
    """The array [N, h, w, 6] of a file that holds it or one [h, w, 6].

    It is mapped, not read: a fold of PanNuke has 2,600 images.
    """
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGED as error:
        reason = type(error).__name__
        raise ModelError(f"The mask {path.name} cannot be read ({reason}).", MASK_HINT) from None
    if getattr(array, "ndim", 0) == 3:
        array = array[None]
    shape: tuple[int, ...] = getattr(array, "shape", ())  # an archive of arrays has none
    if len(shape) != 4 or shape[3] != len(PANNUKE_TYPES) + 1:
        raise ModelError(
            f"{path.name} has shape {shape}; PanNuke's masks are [N, h, w, 6].", MASK_HINT
        )
    return array


def _merge_channels(channels: NDArray[np.generic]) -> NuclearMask:
    """Instances [h, w, 6] of each type to one map; where types overlap, the later one is on top.

    The same number in two channels means two nuclei.
    """
    instances = np.zeros(channels.shape[:2], np.int32)
    types = np.zeros(channels.shape[:2], np.uint8)
    for kind in range(len(PANNUKE_TYPES)):
        layer = instance_map(channels[:, :, kind])
        inside = layer > 0
        instances[inside] = layer[inside] + instances.max()
        types[inside] = kind + 1
    return NuclearMask(instances, types, PANNUKE_TYPES)

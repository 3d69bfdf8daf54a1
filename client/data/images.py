"""A tile as a square 8-bit RGB array, a mask as its labels; `model.pictures` opens the pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from client.data.arrays import is_array, read_array
from model.pictures import (
    SIXTEEN_BIT,
    UnreadablePicture,
    check_labels,
    check_single,
    is_turned,
    open_picture,
    to_rgb,
)
from privacy.errors import DataError

MAX_TILE_PIXELS = 4096 * 4096
MIN_SIDE = 16

_MASK_MODES = ("1", "L", "P", *SIXTEEN_BIT)
_CALLED: Final = {"F": "floating-point ones", "RGB": "colours", "RGBA": "colours", "LA": "two"}
_Decoded = TypeVar("_Decoded")


def read_tile(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """The tile as uint8 RGB [size, size, 3]: the central square, scaled.

    See `model.pictures.to_rgb`. Raises `DataError`; its message is a reason that does not name the
    file.
    """
    image = decode_picture(path, to_rgb)
    square = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(square, dtype=np.uint8)


def read_tile_mask(path: Path, size: int) -> npt.NDArray[np.uint16]:
    """The instance mask as uint16 [size, size], 0 = background; cropped like the tile, nearest.

    Raises `DataError`, also for masks of several channels or pages.
    """
    labels = Image.fromarray(_labels(path).astype(np.int32))
    square = ImageOps.fit(labels, (size, size), Image.Resampling.NEAREST)
    return np.asarray(square).astype(np.uint16)


def tile_size(source: Path | bytes) -> tuple[int, int]:
    """(width, height) of a tile after decoding it completely; raises `DataError`."""
    return decode_picture(source, to_rgb).size


def mask_size(source: Path | bytes) -> tuple[int, int]:
    """(width, height) of a mask after decoding it completely; raises `DataError`."""
    height, width = _labels(source).shape
    return width, height


def stored_turned(source: Path) -> bool:
    """Whether the file says that its pixels are to be turned or mirrored; raises `DataError`."""
    return not is_array(source) and decode_picture(source, is_turned)


def _labels(source: Path | bytes) -> npt.NDArray[np.uint16]:
    """The labels [height, width] of a picture, or of an array that NumPy saved (`.npy`)."""
    if not is_array(source):
        return decode_picture(source, _to_labels)
    labels = read_array(source, most=MAX_TILE_PIXELS)
    _check_sides(labels.shape[1], labels.shape[0])
    return _sixteen_bit(labels)


def decode_picture(source: Path | bytes, convert: Callable[[Image.Image], _Decoded]) -> _Decoded:
    """What `convert` makes of the picture, which it may decode; raises `DataError`."""
    try:
        with open_picture(source, most=MAX_TILE_PIXELS) as image:
            _check_sides(*image.size)
            return convert(image)
    except UnreadablePicture as error:
        raise DataError(str(error)) from None


def _to_labels(image: Image.Image) -> npt.NDArray[np.uint16]:
    check_single(image)
    check_labels(image)
    if image.mode not in _MASK_MODES:
        found = _CALLED.get(image.mode, image.mode)
        raise DataError(
            f"a mask has one channel of whole numbers, not {found}: export labels (16-bit PNG "
            "or TIFF, 0 for what is no nucleus), not a coloured picture of them"
        )
    return _sixteen_bit(np.asarray(ImageOps.exif_transpose(image)).astype(np.int64))


def _check_sides(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{width}x{height} pixels: smaller than {MIN_SIDE}x{MIN_SIDE}")


def _sixteen_bit(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    if labels.min() < 0 or labels.max() > 0xFFFF:
        raise DataError(
            "mask labels outside of 16 bit: they go from 0, for what is no nucleus, to 65535"
        )
    return labels.astype(np.uint16)

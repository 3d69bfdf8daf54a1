"""Any tile that a scanner or an export makes, as a square 8-bit RGB array.

Pillow opens only the formats below (no PostScript, no plug-in that runs a program), and nothing
larger than `MAX_PIXELS` is decoded.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from privacy.errors import DataError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000")
MAX_PIXELS = 4096 * 4096
MIN_SIDE = 16

# What Pillow's decoders are known to raise on damaged files.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_MASK_MODES = ("1", "L", "P", *_SIXTEEN_BIT)
_Decoded = TypeVar("_Decoded")


def read_image(path: Path, size: int) -> npt.NDArray[np.uint8]:
    """The tile as uint8 RGB [size, size, 3]: the central square, scaled.

    Alpha is laid over white (an empty slide is white), 16-bit grey is divided by 257, CMYK and
    palettes are converted, the EXIF orientation is applied, and of several frames the first
    counts. Raises `DataError` whose message is a reason that does not name the file.
    """
    image = _decode(path, _to_rgb)
    square = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(square, dtype=np.uint8)


def read_mask(path: Path, size: int) -> npt.NDArray[np.uint16]:
    """The instance mask as uint16 [size, size], 0 = background; cut as the tile, nearest label.

    Raises `DataError`, also for masks of several channels.
    """
    labels = Image.fromarray(_decode(path, _to_labels).astype(np.int32))
    square = ImageOps.fit(labels, (size, size), Image.Resampling.NEAREST)
    return np.asarray(square).astype(np.uint16)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of a tile after decoding it completely; raises `DataError`."""
    return _decode(path, _to_rgb).size


def mask_size(path: Path) -> tuple[int, int]:
    """(width, height) of a mask after decoding it completely; raises `DataError`."""
    height, width = _decode(path, _to_labels).shape
    return width, height


def _decode(path: Path, convert: Callable[[Image.Image], _Decoded]) -> _Decoded:
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(*image.size)
            image.load()
            return convert(image)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"no image of a known format ({', '.join(FORMATS)})") from None
    except _DAMAGED as error:
        raise DataError(f"damaged image ({type(error).__name__})") from None


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DataError(f"{width}x{height} pixels: not a tile; cut it into tiles first")
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{width}x{height} pixels: smaller than {MIN_SIDE}x{MIN_SIDE}")


def _to_rgb(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _SIXTEEN_BIT:
        return Image.fromarray(_eight_bit(np.asarray(upright))).convert("RGB")
    if upright.mode == "F":
        raise DataError("floating-point pixels have no agreed range; export 8 or 16 bit")
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
    return upright.convert("RGB")


def _eight_bit(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 0xFFFF:
        raise DataError("grey values outside of 16 bit; export 8 or 16 bit")
    return ((wide + 128) // 257).astype(np.uint8)


def _to_labels(image: Image.Image) -> npt.NDArray[np.uint16]:
    if image.mode not in _MASK_MODES:
        raise DataError(f"a mask has one channel of whole numbers, not {image.mode}")
    labels = np.asarray(image).astype(np.int64)
    if labels.min() < 0 or labels.max() > 0xFFFF:
        raise DataError("mask labels outside of 16 bit")
    return labels.astype(np.uint16)

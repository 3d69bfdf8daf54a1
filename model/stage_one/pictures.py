"""Bytes of any public picture as a square 8-bit RGB array.

Pillow opens only the formats below (nothing that runs a program), and nothing larger than
`MAX_PIXELS` is decoded.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS: Final = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000")
MAX_PIXELS: Final = 8192 * 8192

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
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


class Unusable(Exception):
    """Why one picture is left out; names no file."""


def decode(content: bytes, size: int) -> npt.NDArray[np.uint8]:
    """The central square, scaled: uint8 [size, size, 3]. Raises `Unusable`.

    Alpha is laid over white (an empty slide is white), 16-bit grey is divided by 257, the EXIF
    orientation is applied. A picture is never enlarged: it would teach blur.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(image.size, size)
            image.draft("RGB", (size, size))  # JPEG: decodes at half the side where that is enough
            image.load()
            square = ImageOps.fit(_to_rgb(image), (size, size), Image.Resampling.LANCZOS)
    except UnidentifiedImageError:
        raise Unusable(f"no image of a known format ({', '.join(FORMATS)})") from None
    except _DAMAGED as error:
        raise Unusable(f"damaged image ({type(error).__name__})") from None
    return np.asarray(square, dtype=np.uint8)


def _check_size(found: tuple[int, int], size: int) -> None:
    width, height = found
    if width * height > MAX_PIXELS:
        raise Unusable(f"{width}x{height} pixels: not a tile; cut it into tiles first")
    if min(width, height) < size:
        raise Unusable(f"{width}x{height} pixels: smaller than {size}x{size}")


def _to_rgb(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode in _SIXTEEN_BIT:
        levels = np.asarray(upright).astype(np.int64)
        if levels.min() < 0 or levels.max() > 0xFFFF:
            raise Unusable("grey values outside of 16 bit")
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
    if upright.mode == "F":
        raise Unusable("floating-point pixels have no agreed range")
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        return Image.alpha_composite(white, upright.convert("RGBA")).convert("RGB")
    return upright.convert("RGB")

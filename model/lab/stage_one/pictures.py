"""Any public picture's bytes as a square 8-bit RGB array."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from model.pictures import UnreadablePicture, open_picture, to_rgb

MAX_PIXELS: Final = 8192 * 8192


class Unusable(Exception):
    """Why one picture is left out; names no file."""


def decode_square(content: bytes, size: int) -> npt.NDArray[np.uint8]:
    """The central square, scaled: uint8 [size, size, 3]. Raises `Unusable`.

    Colours as in `model.pictures.to_rgb`. A picture is never enlarged: that would teach blur.
    """
    try:
        with open_picture(content, most=MAX_PIXELS) as image:
            width, height = image.size
            if min(width, height) < size:
                raise Unusable(f"{width}x{height} pixels: smaller than {size}x{size}")
            image.draft("RGB", (size, size))  # JPEG: decodes at half the side if that is enough
            square = ImageOps.fit(to_rgb(image), (size, size), Image.Resampling.LANCZOS)
    except UnreadablePicture as error:
        raise Unusable(str(error)) from None
    return np.asarray(square, dtype=np.uint8)

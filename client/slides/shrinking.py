"""What was read of a slide, at the size of a tile: once to be kept, once to be judged."""

from __future__ import annotations

from PIL import Image


def sharpest(region: Image.Image, size: int) -> Image.Image:
    """RGB [size, size], with all the detail that this size can hold: what is kept."""
    return region.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)


def averaged(region: Image.Image, size: int) -> Image.Image:
    """RGB [size, size] of mean colours, in a fifth of the time: what colours are counted in."""
    return shrunk(region, (size, size))


def shrunk(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The mean colours of a picture in `size` (width, height) pixels."""
    return picture.resize(size, Image.Resampling.BOX, reducing_gap=1.0)

"""Fluorescence pictures: one or more markers, each on its own scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from scipy import ndimage

from model.arrays import Singles
from model.lab.control.nuclear_mask import MOST_PIXELS
from model.pictures import UnreadablePicture, open_picture
from privacy.errors import ModelError

LOW, HIGH = 1.0, 99.8  # percentiles that become 0 and 1
MOST_MARKERS = 64
_MOST_OF_ALL = 4 * MOST_PIXELS  # on all pages: 1 GB of markers
_HINT = "Fluorescence is .png or .tif: grey (one marker), RGB (three) or one page a marker."


def read_markers(path: Path) -> Singles:
    """Markers float32 [m, h, w] as recorded: the pages of a file, or the channels of one page.

    A colour picture whose channels are equal is one marker. Raises `ModelError` for a missing or
    damaged file, and for pages of different sizes.
    """
    if not path.is_file():
        raise ModelError(f"The fluorescence image {path} is not a file.", "Give one image.")
    try:
        with open_picture(path, most=MOST_PIXELS) as image:
            pages = [_channels(page) for page in _first(image)]
    except UnreadablePicture as error:
        raise ModelError(f"{path.name} cannot be read: {error}.", _HINT) from None
    if len({page.shape[1:] for page in pages}) != 1:
        raise ModelError(f"The pages of {path.name} differ in size.", _HINT)
    return np.concatenate(pages)


def normalised(markers: Singles, low: float = LOW, high: float = HIGH) -> Singles:
    """Each marker [m, h, w] to 0..1 between its own percentiles; a flat marker becomes 0.

    Raises `ModelError` for values that are not finite.
    """
    if not np.isfinite(markers).all():
        raise ModelError("The fluorescence image holds values that are not numbers.", _HINT)
    flat = markers.reshape(len(markers), -1)
    bottom, top = np.percentile(flat, [low, high], axis=1)[:, :, None, None]
    span = np.where(top > bottom, top - bottom, np.inf)
    return np.asarray(np.clip((markers - bottom) / span, 0, 1), np.float32)


def simulated_marker(mask: NDArray[np.int32], rng: np.random.Generator) -> Singles:
    """A nuclear stain of a mask [s, s] in fluorescence, float32 [s, s], of any scale.

    Nuclei differ in brightness; out-of-focus light, a sloping background and shot noise
    are added. After percentile normalisation it looks like DAPI at low magnification.
    """
    strength = rng.uniform(0.5, 1.0, int(mask.max()) + 1).astype(np.float32)
    strength[0] = 0.0
    sharp = ndimage.gaussian_filter(strength[mask], float(rng.uniform(0.2, 0.7)))
    haze = ndimage.gaussian_filter(sharp, float(rng.uniform(3, 8)))
    slope = np.linspace(0, 1, len(mask), dtype=np.float32) * np.float32(rng.uniform(0, 0.1))
    light = sharp + np.float32(rng.uniform(0, 0.35)) * haze + slope
    grain = rng.standard_normal(light.shape, dtype=np.float32) * np.float32(
        rng.uniform(0.005, 0.04)
    )
    return np.asarray(np.maximum(light + grain, 0), np.float32)


def _first(image: Image.Image) -> list[Image.Image]:
    pages: list[Image.Image] = []
    pixels = 0
    for page in ImageSequence.Iterator(image):
        if len(pages) == MOST_MARKERS:
            raise ModelError(f"An image of more than {MOST_MARKERS} pages.", _HINT)
        pixels += page.width * page.height  # of this page: a file's pages may differ in size
        if pixels > _MOST_OF_ALL:
            raise UnreadablePicture(f"{pixels} pixels on its pages; cut it into tiles first")
        pages.append(page.copy())
    return pages


def _channels(page: Image.Image) -> Singles:
    """[m, h, w]; transparency is not a marker, and a palette is looked up."""
    if page.mode in ("P", "PA", "CMYK", "YCbCr"):
        page = page.convert("RGB")
    values = np.asarray(page, np.float32)
    if values.ndim == 2:
        return values[None]
    channels = np.moveaxis(values, 2, 0)
    if page.mode in ("RGBA", "LA", "RGBX"):
        channels = channels[:-1]
    return channels[:1] if (channels == channels[:1]).all() else channels

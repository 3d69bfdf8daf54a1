"""Small whole slides, as scanners write them: a pyramid in tiles, label and macro beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

Picture = npt.NDArray[np.uint8]

GLASS = (243, 242, 244)
PINK = (214, 130, 176)
NUCLEUS = (92, 60, 140)
GREEN_PEN = (30, 140, 110)
LABEL = (255, 0, 255)  # nothing else is magenta
CANARY = "canary-Meyer-Anna-1951"
SIDE = 512  # pixels of level 0


def specimen(side: int = SIDE, *, seed: int = 0) -> Picture:
    """Glass, a round piece of tissue with nuclei in the middle, a pen's stroke down the right."""
    picture = np.empty((side, side, 3), np.uint8)
    picture[:] = GLASS
    rows, columns = np.mgrid[:side, :side]
    inside = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (0.42 * side) ** 2
    picture[inside] = PINK
    rng = np.random.default_rng(seed)
    nuclei = np.kron(rng.random((side // 4, side // 4)) < 0.2, np.ones((4, 4), bool))
    picture[inside & nuclei] = NUCLEUS
    picture[:, int(0.78 * side) : int(0.84 * side)] = GREEN_PEN
    return picture


def write_svs(path: Path, picture: Picture, *, mpp: str = "0.5") -> Path:
    """An Aperio slide of three levels; without `mpp` it does not say its resolution."""
    said = f"|MPP = {mpp}" if mpp else ""
    head = f"Aperio Image Library v12\r\nx|AppMag = 20{said}|Filename = {CANARY}|User = {CANARY}"
    tiled = {"tile": (128, 128), "compression": "zlib", "photometric": "rgb"}
    beside = np.full((64, 96, 3), LABEL, np.uint8)
    with tifffile.TiffWriter(path) as slide:
        slide.write(picture, description=head, metadata=None, **tiled)
        # An Aperio file has its thumbnail second, then the other levels.
        slide.write(picture[::12, ::12], description=head, metadata=None, rowsperstrip=16)
        for shrink in (4, 8):
            slide.write(picture[::shrink, ::shrink], description=head, metadata=None, **tiled)
        kinds = {"label": 1, "macro": 9}
        for kind in kinds:
            text = f"Aperio Image Library v12\r\n{kind} 96x64|{CANARY}"
            slide.write(
                beside, description=text, metadata=None, subfiletype=kinds[kind], rowsperstrip=64
            )
    return path


def write_pyramid(path: Path, picture: Picture, *, per_cm: float | None = 20000) -> Path:
    """A tiled TIFF of two levels; `per_cm` pixels in a centimetre."""
    tiled = {"tile": (128, 128), "compression": "zlib", "photometric": "rgb", "metadata": None}
    known = {} if per_cm is None else {"resolution": (per_cm, per_cm), "resolutionunit": 3}
    with tifffile.TiffWriter(path) as slide:
        slide.write(picture, **tiled, **known)
        slide.write(picture[::4, ::4], subfiletype=1, **tiled)
    return path

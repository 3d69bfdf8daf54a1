"""One slide into tiles: which places are looked at, in which order, and what becomes of each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from client.slides.filters import TileRules, TileVerdict, coloured, tile_shares
from client.slides.folder import TilingFolder
from client.slides.grid import TileCut, TileGrid, plan_grid
from client.slides.journal import GridPlace, PlaceDecision, SlideJournal
from client.slides.listing import ListedSlide
from client.slides.opened import WholeSlide
from client.slides.png import lossless_png
from client.slides.shrinking import averaged, sharpest
from privacy.closing import Closing
from privacy.errors import ConfigError

# Pixels of the overview for a tile's side, and for the whole slide at least and at most.
_FINE: Final = 12
_SMALLEST_OVERVIEW: Final = 320
_LARGEST_OVERVIEW: Final = 4096
_BAND: Final = 256  # rows of the overview that are looked at together
_GLASS: Final = 0.01  # coloured share of a place in the overview, below which nobody looks closer

ShareDone = Callable[[float, int], None]  # of the slide, 0..1; tiles kept so far


@dataclass(frozen=True, slots=True)
class TilingRequest:
    """What is cut out of which slides, into which folder; `most` tiles of a slide, 0 for all."""

    slides: Path
    out: Path
    cut: TileCut
    rules: TileRules
    slide_mpp: float | None = None  # where a slide does not say it
    most: int = 0

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ConfigError("--most is negative.", "Give a number of tiles, or 0 for all.")

    def options(self) -> dict[str, object]:
        """What has to stay the same from one run to the next."""
        found = {**asdict(self.cut), **asdict(self.rules)}
        return {**found, "slide_mpp": self.slide_mpp, "most": self.most}


@dataclass(frozen=True, slots=True)
class SlideParts(Closing):
    """An open slide with what is needed to draw a strip of it."""

    slide: WholeSlide
    grid: TileGrid
    overview: Image.Image

    def close(self) -> None:
        """Close the slide."""
        self.slide.close()


def cut_slide(
    request: TilingRequest,
    folder: TilingFolder,
    listed: ListedSlide,
    journal: SlideJournal,
    progress: ShareDone,
) -> SlideParts:
    """Decide about every place that the journal has not decided; the caller closes the parts.

    Raises `UnusableSlide`, and `OSError` where the disk is full.
    """
    slide = WholeSlide(listed.path)
    try:
        grid = plan_grid(slide.shape(request.slide_mpp), request.cut)
        fine = max(_SMALLEST_OVERVIEW, _FINE * max(grid.columns, grid.rows))
        overview = slide.overview(min(_LARGEST_OVERVIEW, fine))
        places = _ordered(candidates(grid, np.asarray(overview)), folder.name(listed), request.most)
        kept = 0
        for number, place in enumerate(places):
            if request.most and kept >= request.most:
                break
            decision = journal.decided.get(place)
            if decision is None or not _still_there(folder, listed, place, decision):
                region = slide.region(grid, place)
                decision = _decide(request, folder, listed, place, region)
                journal.add(place, decision)
            kept += decision.verdict is TileVerdict.KEPT
            progress((number + 1) / len(places), kept)
    except BaseException:
        slide.close()
        raise
    return SlideParts(slide, grid, overview)


def candidates(grid: TileGrid, overview: npt.NDArray[np.uint8]) -> list[GridPlace]:
    """The places whose part of the overview [height, width, 3] is not plain glass."""
    height, width = overview.shape[:2]
    # How many coloured pixels are above and left of each corner, so that a place takes four looks.
    above = np.zeros((height + 1, width + 1), np.int32)
    for top in range(0, height, _BAND):
        above[top + 1 : top + _BAND + 1, 1:] = coloured(overview[top : top + _BAND])
    above.cumsum(0, out=above).cumsum(1, out=above)
    tops, bottoms = _spans(grid.rows, grid.step[1], height / grid.slide[1], height)
    lefts, rights = _spans(grid.columns, grid.step[0], width / grid.slide[0], width)
    upper, lower = above[tops], above[bottoms]
    found = lower[:, rights] - lower[:, lefts] - upper[:, rights] + upper[:, lefts]
    sizes = np.outer(bottoms - tops, rights - lefts)
    rows, columns = np.nonzero(found >= _GLASS * sizes)
    return list(zip(columns.tolist(), rows.tolist(), strict=True))


def _spans(
    count: int, step: float, scale: float, end: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """From which to which pixel of an overview's `end` pixels each of `count` places goes."""
    # The overview shows the whole slide, the grid maybe not its last strip.
    starts = np.rint(np.arange(count) * step)
    first = np.minimum((starts * scale).astype(np.int64), end - 1)
    last = np.minimum(((starts + step) * scale).astype(np.int64), end)
    return first, np.maximum(first + 1, last)


def _ordered(places: list[GridPlace], name: str, most: int) -> list[GridPlace]:
    """Row by row where all are looked at; otherwise spread over the slide, the same every time."""
    if not most:
        return places
    return sorted(
        places, key=lambda place: hashlib.sha256(f"{name}/{place[0]}/{place[1]}".encode()).digest()
    )


def _still_there(
    folder: TilingFolder, listed: ListedSlide, place: GridPlace, decision: PlaceDecision
) -> bool:
    kept = decision.verdict is TileVerdict.KEPT
    return not kept or folder.holds(listed, place, decision.sha256)


def _decide(
    request: TilingRequest,
    folder: TilingFolder,
    listed: ListedSlide,
    place: GridPlace,
    region: Image.Image,
) -> PlaceDecision:
    shares = tile_shares(np.asarray(averaged(region, request.cut.size)))
    verdict = request.rules.verdict(shares)
    if verdict is not TileVerdict.KEPT:
        return PlaceDecision(verdict, shares)
    tile = lossless_png(sharpest(region, request.cut.size))
    return PlaceDecision(verdict, shares, folder.keep(listed, place, tile))

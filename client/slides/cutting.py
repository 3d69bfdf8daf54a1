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

from client.slides.filters import TileRules, TileVerdict, coloured_share, tile_shares
from client.slides.folder import TilingFolder
from client.slides.grid import TileCut, TileGrid, plan_grid
from client.slides.journal import GridPlace, PlaceDecision, SlideJournal
from client.slides.listing import ListedSlide
from client.slides.opened import WholeSlide
from client.slides.png import lossless_png
from privacy.errors import ConfigError

# Pixels of the overview for a tile's side, and for the whole slide at most.
_FINE: Final = 12
_LARGEST_OVERVIEW: Final = 4096
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
class SlideParts:
    """An open slide with what is needed to draw a strip of it."""

    slide: WholeSlide
    grid: TileGrid
    overview: Image.Image


def cut_slide(
    request: TilingRequest,
    folder: TilingFolder,
    listed: ListedSlide,
    journal: SlideJournal,
    progress: ShareDone,
) -> SlideParts:
    """Decide about every place that the journal has not decided; the caller closes `slide`.

    Raises `UnusableSlide`, and `OSError` where the disk is full.
    """
    slide = WholeSlide(listed.path)
    try:
        grid = plan_grid(slide.shape(request.slide_mpp), request.cut)
        overview = slide.overview(min(_LARGEST_OVERVIEW, _FINE * max(grid.columns, grid.rows)))
        places = _ordered(candidates(grid, np.asarray(overview)), folder.name(listed), request.most)
        kept = 0
        for number, place in enumerate(places):
            if request.most and kept >= request.most:
                break
            decision = journal.decided.get(place)
            if decision is None or not _still_there(folder, listed, place, decision):
                tile = slide.tile(grid, place, request.cut.size)
                decision = _decide(request, folder, listed, place, tile)
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
    # Of a pixel of level 0; the overview shows the whole slide, the grid maybe not its last strip.
    across = width / max(1.0, grid.slide[0])
    down = height / max(1.0, grid.slide[1])
    found = []
    for place in grid.places():
        left, top = grid.corner(*place)
        rows = slice(int(top * down), max(int(top * down) + 1, int((top + grid.step[1]) * down)))
        columns = slice(
            int(left * across), max(int(left * across) + 1, int((left + grid.step[0]) * across))
        )
        part = overview[rows, columns]
        if part.size and coloured_share(part) >= _GLASS:
            found.append(place)
    return found


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
    tile: Image.Image,
) -> PlaceDecision:
    shares = tile_shares(np.asarray(tile))
    verdict = request.rules.verdict(shares)
    if verdict is not TileVerdict.KEPT:
        return PlaceDecision(verdict, shares)
    return PlaceDecision(verdict, shares, folder.keep(listed, place, lossless_png(tile)))

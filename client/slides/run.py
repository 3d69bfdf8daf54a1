"""All slides of a table into one folder of tiles; what was done before is not done again."""

# Why: docs/adr/0052-from-slides-to-tiles.md

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from client.data.imagefolder import Quarantined, commonest
from client.slides.cutting import TilingRequest, cut_slide
from client.slides.filters import TileVerdict
from client.slides.folder import TilingFolder
from client.slides.journal import GridPlace, SlideJournal
from client.slides.listing import ListedSlide, SlideList, list_slides
from client.slides.sheet import slide_strip, write_sheets, write_strip
from client.slides.unusable import UnusableSlide
from privacy.errors import DataError

# What a decoder may raise besides its own errors on a broken file: one file costs its slide only.
_UNFORESEEN: Final = (MemoryError, RuntimeError, ValueError, ArithmeticError)
_GREY: Final = "; none of it has the colour of a stain: is it a grey or fluorescence slide?"
_NO_ROWS: Final = "The table has no rows: list every slide there."


@dataclass(frozen=True, slots=True)
class TilingProgress:
    """How far a run is: `share` (0..1) of slide `slide` of `slides`, from 1; tiles so far."""

    slide: int
    slides: int
    share: float
    tiles: int


@dataclass(frozen=True, slots=True)
class TilingSummary:
    """What there is at the end.

    `unlisted`: names of slides that the table no longer has; `unnamed`: how many files called as
    slides are in no row of it.
    """

    tiles: int
    slides: int  # with tiles
    patients: int
    left_out: tuple[Quarantined, ...] = field(repr=False)
    unlisted: tuple[str, ...]
    unnamed: int
    sheets: tuple[Path, ...]


def tile_slides(
    request: TilingRequest, on_progress: Callable[[TilingProgress], None]
) -> TilingSummary:
    """Cut the tiles; may be killed at any time and started again.

    Raises `DataError` where no slide gives a tile (the reasons are in quarantine.csv then),
    `ConfigError` for a folder that cannot be gone on with, `OSError` for a full disk.
    """
    listed = list_slides(request.slides)
    slides, left_out = listed.slides, listed.left_out
    with TilingFolder(request.out, request.options()) as folder:
        cut: list[tuple[ListedSlide, list[GridPlace]]] = []
        for number, slide in enumerate(slides, start=1):
            before = sum(len(places) for _, places in cut)

            def show(share: float, kept: int, number: int = number, before: int = before) -> None:
                on_progress(TilingProgress(number, len(slides), share, before + kept))

            try:
                cut.append((slide, _tiles_of(request, folder, slide, show)))
            except UnusableSlide as fault:
                left_out.append(Quarantined(slide.values["file_name"], str(fault)))
            except _UNFORESEEN as error:
                reason = f"damaged slide ({type(error).__name__})"
                left_out.append(Quarantined(slide.values["file_name"], reason))
            show(1.0, len(cut[-1][1]) if cut and cut[-1][0] is slide else 0)
        return _finished(request, folder, listed, cut)


def _tiles_of(
    request: TilingRequest,
    folder: TilingFolder,
    listed: ListedSlide,
    show: Callable[[float, int], None],
) -> list[GridPlace]:
    with folder.journal(listed) as journal:
        if not journal.done:
            try:
                with cut_slide(request, folder, listed, journal, show) as parts:
                    strip = slide_strip(folder.name(listed), parts, journal)
                    write_strip(folder.strip(listed), strip)
            except (UnusableSlide, *_UNFORESEEN):
                _check_unchanged(listed, journal)
                raise
            _check_unchanged(listed, journal)
            journal.finish()
        return _kept(journal)


def _check_unchanged(listed: ListedSlide, journal: SlideJournal) -> None:
    """Raise `UnusableSlide` for a file that is another one than when its journal was begun."""
    if listed.stamp() != journal.stamp:
        raise UnusableSlide(
            "the file changed while it was cut, as one that is still being copied does; repeat the "
            "command once it is whole"
        )


def _kept(journal: SlideJournal) -> list[GridPlace]:
    """In the order of the grid; raises `UnusableSlide` where there are none."""
    kept = [p for p, found in journal.decided.items() if found.verdict is TileVerdict.KEPT]
    if not kept:
        raise UnusableSlide(_nothing_kept(journal))
    return sorted(kept, key=lambda place: (place[1], place[0]))


def _nothing_kept(journal: SlideJournal) -> str:
    seen = list(journal.decided.values())
    if not seen:
        return "nothing on it is darker than glass; look at the contact sheet"
    pen = sum(found.verdict is TileVerdict.PEN for found in seen)
    grey = pen and not any(found.shares.tissue for found in seen)
    return (
        f"no tile has enough tissue (--tissue) without pen (--pen): {len(seen)} looked at, {pen} "
        f"of them with pen; look at the contact sheet{_GREY if grey else ''}"
    )


def _finished(
    request: TilingRequest,
    folder: TilingFolder,
    listed: SlideList,
    cut: list[tuple[ListedSlide, list[GridPlace]]],
) -> TilingSummary:
    """Write what is made at the end of every run."""
    slides, left_out = listed.slides, listed.left_out
    quarantine = folder.write_quarantine(left_out)
    folder.write_names(slides)
    sheets = write_sheets(request.out, [folder.strip(slide) for slide in slides])
    if not cut:
        raise DataError(
            f"No slide of {request.slides} gives a tile.",
            f"{commonest(left_out) if left_out else _NO_ROWS} All reasons: {quarantine}",
        )
    tiles = folder.write_table(cut)
    return TilingSummary(
        tiles=tiles,
        slides=len(cut),
        patients=len({slide.patient for slide, _ in cut}),
        left_out=tuple(left_out),
        unlisted=tuple(folder.unlisted(slides)),
        unnamed=listed.unnamed,
        sheets=tuple(sheets),
    )

"""The contact sheet: of each slide what was kept and what was not, for a person to look at.

It shows tissue and pseudonyms, no name and no label. It stays at the site like the tiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from client.slides.cutting import SlideParts
from client.slides.filters import TileVerdict
from client.slides.journal import GridPlace, SlideJournal
from client.slides.png import lossless_png
from client.slides.shrinking import averaged
from model.pictures import UnreadablePicture, open_picture
from privacy.files import write_private

_SIDE: Final = 160  # pixels of a picture
_GAP: Final = 8
_TITLE: Final = 22
_KEPT_SHOWN: Final = 6
_DROPPED_SHOWN: Final = 2  # of each reason
_WIDTH: Final = _GAP + (1 + _KEPT_SHOWN + 2 * _DROPPED_SHOWN) * (_SIDE + _GAP)
_HEIGHT: Final = _TITLE + _SIDE + _GAP
_MOST_STRIPS: Final = 40
_COLOURS: Final = {
    TileVerdict.KEPT: (0, 130, 60),
    TileVerdict.PEN: (200, 30, 30),
    TileVerdict.NO_TISSUE: (140, 140, 140),
}


def slide_strip(name: str, parts: SlideParts, journal: SlideJournal) -> Image.Image:
    """One slide: its overview with the decisions, tiles that were kept, tiles that were not."""
    strip = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(strip)
    counts = Counter(decision.verdict for decision in journal.decided.values())
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in TileVerdict)
    draw.text((_GAP, 3), f"{name}   {told}", "black", ImageFont.load_default(14))
    strip.paste(_overview(parts, journal), (_GAP, _TITLE))
    left = _GAP + _SIDE + _GAP
    for verdict in TileVerdict:
        for place in _shown(journal, verdict):
            tile = averaged(parts.slide.region(parts.grid, place), _SIDE)
            ImageDraw.Draw(tile).rectangle(
                (0, 0, _SIDE - 1, _SIDE - 1), outline=_COLOURS[verdict], width=4
            )
            strip.paste(tile, (left, _TITLE))
            left += _SIDE + _GAP
    return strip


def write_strip(path: Path, strip: Image.Image) -> None:
    """Keep a slide's strip for the sheets; raises `OSError`."""
    write_private(path, lossless_png(strip))


def write_sheets(out: Path, strips: Sequence[Path]) -> list[Path]:
    """Write the strips below each other, as many sheets as it takes; removes older ones."""
    for old in out.glob("contact-sheet-*.png"):
        old.unlink()
    pictures = [picture for picture in map(_read, strips) if picture is not None]
    sheets = []
    for start in range(0, len(pictures), _MOST_STRIPS):
        page = pictures[start : start + _MOST_STRIPS]
        sheet = Image.new("RGB", (_WIDTH, _TITLE + _GAP + _HEIGHT * len(page)), "white")
        _legend(sheet)
        for number, picture in enumerate(page):
            sheet.paste(picture, (0, _TITLE + _GAP + number * _HEIGHT))
        sheets.append(out / f"contact-sheet-{1 + start // _MOST_STRIPS}.png")
        write_strip(sheets[-1], sheet)
    return sheets


def _legend(sheet: Image.Image) -> None:
    draw, left = ImageDraw.Draw(sheet), _GAP
    for verdict in TileVerdict:
        draw.rectangle((left, 6, left + 12, 18), fill=_COLOURS[verdict])
        draw.text((left + 18, 3), str(verdict), "black", ImageFont.load_default(14))
        left += _SIDE


def _shown(journal: SlideJournal, verdict: TileVerdict) -> list[GridPlace]:
    """A few places, spread evenly over those with this verdict."""
    found = sorted(
        place for place, decision in journal.decided.items() if decision.verdict is verdict
    )
    most = min(len(found), _KEPT_SHOWN if verdict is TileVerdict.KEPT else _DROPPED_SHOWN)
    return [found[(2 * number + 1) * len(found) // (2 * most)] for number in range(most)]


def _overview(parts: SlideParts, journal: SlideJournal) -> Image.Image:
    grid = parts.grid
    picture = parts.overview.copy()
    picture.thumbnail((_SIDE, _SIDE))
    draw = ImageDraw.Draw(picture)
    across, down = picture.width / grid.slide[0], picture.height / grid.slide[1]
    for place, decision in journal.decided.items():
        if decision.verdict is not TileVerdict.NO_TISSUE:
            left, top = grid.corner(*place)
            box = (
                left * across,
                top * down,
                (left + grid.step[0]) * across - 1,
                (top + grid.step[1]) * down - 1,
            )
            if box[2] > box[0] and box[3] > box[1]:
                draw.rectangle(box, outline=_COLOURS[decision.verdict])
    return picture


def _read(path: Path) -> Image.Image | None:
    try:
        with open_picture(path, most=_WIDTH * _HEIGHT) as picture:
            return picture.convert("RGB")
    except (UnreadablePicture, OSError):
        return None  # the slide gave no tiles

"""The drawn pictures: every text fits into its box, in a font as wide as browsers fall back to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import ImageFont

PICTURE: Final = Path(__file__).parents[2] / "docs/airlock.svg"
FONTS: Final = Path(matplotlib.get_data_path()) / "fonts/ttf"  # DejaVu Sans: among the widest
ROOM: Final = 12.0  # units of the picture, on each side
_SVG: Final = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def holds(self, other: Box) -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and other.right <= self.right
            and other.bottom <= self.bottom
        )

    def touches(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def rectangles() -> list[Box]:
    found = []
    for one in ElementTree.parse(PICTURE).iter(f"{_SVG}rect"):
        x, y = float(one.get("x", "0")), float(one.get("y", "0"))
        found.append(Box(x, y, x + float(one.attrib["width"]), y + float(one.attrib["height"])))
    return found


def texts() -> list[tuple[str, Box]]:
    """Each text with the room it takes, all of them centred on x."""
    root = ElementTree.parse(PICTURE).getroot()
    sizes = {id(text): root.attrib["font-size"] for text in root.iter(f"{_SVG}text")}
    for group in root.iter(f"{_SVG}g"):
        if "font-size" in group.attrib:
            sizes |= {id(text): group.attrib["font-size"] for text in group.iter(f"{_SVG}text")}
    found = []
    for text in root.iter(f"{_SVG}text"):
        size, words = float(sizes[id(text)]), text.text or ""
        bold = "-Bold" if text.get("font-weight") == "bold" else ""
        font = ImageFont.truetype(str(FONTS / f"DejaVuSans{bold}.ttf"), 100)
        half = font.getlength(words) * size / 100 / 2
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        found.append((words, Box(x - half, y - size, x + half, y + size / 3)))
    return found


@pytest.mark.parametrize(("words", "box"), texts(), ids=lambda one: str(one))
def test_a_text_fits_into_its_box_with_room_to_spare(words: str, box: Box) -> None:
    wide = Box(box.left - ROOM, box.top, box.right + ROOM, box.bottom)
    for rectangle in rectangles():
        if rectangle.touches(box):
            assert rectangle.holds(wide), words


def test_no_two_texts_touch() -> None:
    found = texts()
    for place, (words, box) in enumerate(found):
        for others, other in found[place + 1 :]:
            assert not box.touches(other), (words, others)

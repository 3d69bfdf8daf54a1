"""A reader's page: one HTML file with everything in it, and nothing that says what is what.

Pictures are pixels alone, encoded anew: what a file says about itself, its name and its size in
bytes stay behind. Texts reach the page as JSON and are shown as text, so markup in a caption is
just text.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.lab.readers.items import ReadingItem

_PAGE: Final = Path(__file__).with_name("page.html")


@dataclass(frozen=True, slots=True)
class PageAbout:
    """Whose page of which study it is; `mark` goes into the answers that it saves."""

    study: str
    reader: str
    mark: str


def reader_page(
    about: PageAbout,
    items: Sequence[ReadingItem],
    pixels: Sequence[npt.NDArray[np.uint8]],
) -> str:
    """The page of a reader, with `items` in this order; `pixels` [side, side, 3] by number."""
    used = sorted({number for item in items for number in item.pictures})
    data = {
        "study": about.study,
        "reader": about.reader,
        "mark": about.mark,
        "items": [
            {"id": i.id, "task": i.task.value, "pictures": i.pictures, "captions": i.captions}
            for i in items
        ],
        "pictures": {number: _encoded(pixels[number]) for number in used},
    }
    # Inside a script element only "</" ends it; as JSON's escape it is the same text.
    text = json.dumps(data, ensure_ascii=True).replace("</", "<\\/").replace("<!--", "<\\u0021--")
    return Template(_PAGE.read_text("utf-8")).substitute(data=text)


def _encoded(pixels: npt.NDArray[np.uint8]) -> str:
    png = io.BytesIO()
    Image.fromarray(pixels).save(png, "PNG")
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()

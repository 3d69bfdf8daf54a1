"""How many tiles a second does `craftsfl site tile` cut on one core?

Each row cuts a whole slide into a new folder, from opening it to table and contact sheet, `--times`
times. The sample slide is small and has no pyramid: all of it is read for the overview, and so few
tiles come of it at 1 um that this is most of their time. So it is also cut as it would be within a
larger one: repeated, with the coarser levels that a scanner writes (`repeated`; packed with zlib,
whose decoder is slower than JPEG's). Rows: `slide`, `size` (pixels), `mpp`, `places` (looked at),
`kept`, `tiles_per_second` (kept tiles by processor time of this one-threaded process),
`places_per_second`, `wall` (kept tiles by the clock, with the disk's part; of a busy machine,
less).
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import openslide
import tifffile
from PIL import Image

from bench.output import BenchRow, parser, print_rows
from client.slides.cutting import TilingRequest
from client.slides.filters import TileRules
from client.slides.grid import TileCut
from client.slides.run import tile_slides
from privacy.errors import DataError

SAMPLE_SLIDE: Final = Path("../shared/data/slides/cmu-1-small-region.svs")
_CUTS: Final = (TileCut(256, 0.5), TileCut(128, 0.5), TileCut(256, 1.0))
_REPEATED: Final = 2  # times across and down
_RULES: Final = TileRules(tissue=0.4, pen=0.05)


def tiling_row(slide: Path, cut: TileCut, times: int, name: str = "sample") -> BenchRow:
    """Cut `slide`, called `name`, so often."""
    busy = clock = 0.0
    kept = places = 0
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            request = _request(Path(folder), slide, cut)
            started = time.process_time(), time.perf_counter()
            kept += tile_slides(request, lambda at: None).tiles
            busy += time.process_time() - started[0]
            clock += time.perf_counter() - started[1]
            places += _decided(request.out)
    return {
        "slide": name,
        "size": cut.size,
        "mpp": cut.mpp,
        "places": places // times,
        "kept": kept // times,
        "tiles_per_second": kept / busy,
        "places_per_second": places / busy,
        "wall": kept / clock,
    }


def _request(folder: Path, slide: Path, cut: TileCut) -> TilingRequest:
    slides = folder / "slides"
    slides.mkdir()
    (slides / f"slide{slide.suffix}").symlink_to(slide.resolve())
    with (slides / "metadata.csv").open("w", newline="") as file:
        rows = (("file_name", "text", "patient_id"), (f"slide{slide.suffix}", "bench", "bench"))
        csv.writer(file).writerows(rows)
    return TilingRequest(slides, folder / "tiles", cut, _RULES)


def repeat_slide(sample: Path, path: Path, times: int) -> Path:
    """Write a TIFF of level 0 of `sample`, `times` across and down, with levels of 1/4 and 1/16."""
    with openslide.OpenSlide(sample) as slide:
        mpp = float(slide.properties[openslide.PROPERTY_NAME_MPP_X])
        once = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    level = np.tile(once, (times, times, 1))
    with tifffile.TiffWriter(path) as file:
        for shrink in (1, 4, 16):
            file.write(
                level,
                tile=(256, 256),
                compression="zlib",
                compressionargs={"level": 1},
                photometric="rgb",
                metadata=None,
                subfiletype=int(shrink > 1),
                resolution=(1e4 / mpp / shrink,) * 2,
                resolutionunit=3,
            )
            level = np.asarray(Image.fromarray(level).reduce(4))
    return path


def _decided(out: Path) -> int:
    """Places that were looked at: a list each in the journals."""
    journals = (out / ".tiling").glob("*.jsonl")
    return sum(path.read_text().count("[") for path in journals)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    options = parser("tiling", "Tiles a second, cut out of a whole slide.")
    options.add_argument("--slide", type=Path, default=SAMPLE_SLIDE, help="a slide (%(default)s)")
    options.add_argument("--times", type=int, default=5, help="how often (%(default)s)")
    wanted = options.parse_args(arguments)
    if not wanted.slide.is_file():
        raise DataError(f"There is no slide {wanted.slide}.", "Name one: --slide FILE")
    tiling_row(wanted.slide, _CUTS[0], 1)  # imports and caches
    rows = [tiling_row(wanted.slide, cut, wanted.times) for cut in _CUTS]
    with tempfile.TemporaryDirectory() as folder:
        larger = repeat_slide(wanted.slide, Path(folder) / "repeated.tif", _REPEATED)
        rows += [tiling_row(larger, cut, 1, "repeated") for cut in _CUTS if cut.size == 256]
    print_rows("tiling", rows, as_json=wanted.json)


if __name__ == "__main__":
    main(sys.argv[1:])

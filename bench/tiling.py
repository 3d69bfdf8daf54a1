"""How many tiles a second does `craftsfl site tile` cut on one core?

Each row cuts a whole slide into a new folder, from opening it to table and contact sheet, `--times`
times. Rows: `size` (pixels), `mpp`, `places` (looked at), `kept`, `tiles_per_second` (kept tiles by
processor time of this one-threaded process), `places_per_second`, `wall` (kept tiles by the clock,
with the disk's part; of a busy machine, less).
"""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.output import BenchRow, parser, print_rows
from client.slides.cutting import TilingRequest
from client.slides.filters import TileRules
from client.slides.grid import TileCut
from client.slides.run import tile_slides
from privacy.errors import DataError

SAMPLE_SLIDE: Final = Path("../shared/data/slides/cmu-1-small-region.svs")
_CUTS: Final = (TileCut(256, 0.5), TileCut(128, 0.5), TileCut(256, 1.0))
_RULES: Final = TileRules(tissue=0.4, pen=0.05)


def tiling_row(slide: Path, cut: TileCut, times: int) -> BenchRow:
    """Cut `slide` so often."""
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
    print_rows("tiling", rows, as_json=wanted.json)


if __name__ == "__main__":
    main(sys.argv[1:])

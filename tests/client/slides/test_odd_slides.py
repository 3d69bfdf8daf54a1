"""Slides that are odd, change while they are cut, or are in no table: read rightly, or told."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

openslide = pytest.importorskip("openslide", reason="the extra `slides` is not installed")

from client.slides.cutting import TilingRequest  # noqa: E402
from client.slides.filters import TileRules  # noqa: E402
from client.slides.grid import TileCut  # noqa: E402
from client.slides.journal import SlideJournal  # noqa: E402
from client.slides.run import TilingProgress, TilingSummary, tile_slides  # noqa: E402
from privacy.errors import ConfigError, DataError  # noqa: E402
from tests.client.pictures import write_csv  # noqa: E402
from tests.client.slides.making import Picture, specimen, write_pyramid, write_svs  # noqa: E402

HEADER = ("file_name", "text", "patient_id")
KNOWN = {"resolution": (20000, 20000), "resolutionunit": 3}
KEPT = 28  # of the specimen's places


def write_tiff(path: Path, picture: Picture, **other: object) -> Path:
    kind = {"tile": (128, 128), "compression": "zlib", "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=bool(other.pop("big", False))) as slide:
        slide.write(picture, **{**kind, **KNOWN, **other})
    return path


def tiles_of(*slides: Path, **other: object) -> tuple[TilingSummary, TilingRequest]:
    """Cut the slides, which lie in one folder, each of a patient of its own."""
    folder = slides[0].parent
    write_csv(folder, [(path.name, "x", f"of {path.name}") for path in slides], HEADER)
    wanted = request(folder, **other)
    return tile_slides(wanted, lambda at: None), wanted


def request(slides: Path, **other: object) -> TilingRequest:
    known = {"cut": TileCut(64, 0.5), "rules": TileRules(0.4, 0.05), "out": slides.parent / "tiles"}
    return TilingRequest(slides, **{**known, **other})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slides").mkdir()
    return tmp_path / "slides"


@pytest.fixture
def good(folder: Path) -> Path:
    return write_svs(folder / "good.svs", specimen())


def reason(done: TilingSummary) -> str:
    (entry,) = done.left_out
    return entry.reason


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        pytest.param({"tile": (112, 80)}, KEPT, id="blocks that do not divide"),
        pytest.param({"tile": (16, 16)}, KEPT, id="small blocks"),
        pytest.param({"big": True}, KEPT, id="BigTIFF"),
        pytest.param({"compression": None}, KEPT, id="not packed"),
        pytest.param({"predictor": True}, KEPT, id="predictor"),
        pytest.param({"resolution": (50800, 50800), "resolutionunit": 2}, KEPT, id="inches"),
        pytest.param({"resolution": (20000, 40000)}, 18, id="pixels that are not square"),
    ],
)
def test_kinds_of_tiff(folder: Path, other: dict[str, object], kept: int) -> None:
    done, _ = tiles_of(write_tiff(folder / "slide.tif", specimen(), **other))
    assert done.tiles == kept


def test_sixteen_bits_give_the_same_tiles(folder: Path) -> None:
    deep = write_tiff(folder / "deep.tif", specimen().astype(np.uint16) * 257)
    done, wanted = tiles_of(deep, write_tiff(folder / "flat.tif", specimen()))
    assert done.tiles == 2 * KEPT
    by_place: dict[str, set[bytes]] = {}
    for path in wanted.out.glob("*/*-*.png"):
        by_place.setdefault(path.name, set()).add(path.read_bytes())
    assert {len(found) for found in by_place.values()} == {1}


def test_what_is_transparent_was_not_scanned(folder: Path) -> None:
    picture = np.dstack([specimen(), np.full((512, 512), 255, np.uint8)])
    picture[:, :200, 3] = 0
    done, wanted = tiles_of(write_tiff(folder / "hole.tif", picture, extrasamples=["unassalpha"]))
    assert 0 < done.tiles < KEPT
    for path in wanted.out.glob("*/0003-*.png"):  # pixels 192 to 256
        assert (np.asarray(Image.open(path))[:, :7] == 255).all()


def test_a_poisoned_label_harms_nothing_because_nobody_reads_it(good: Path) -> None:
    poisoned = write_svs(good.with_name("poisoned.svs"), specimen())
    with tifffile.TiffFile(poisoned, mode="r+b") as opened:
        for page in opened.pages[-2:]:
            page.tags["Compression"].overwrite(8)  # which its bytes are not
    for name in ("label", "macro"):
        with openslide.OpenSlide(poisoned) as slide:
            with pytest.raises(openslide.OpenSlideError):
                slide.associated_images[name]
            with pytest.raises(openslide.OpenSlideError):  # once read, all of the slide is lost
                slide.read_region((0, 0), 0, (8, 8))
    done, wanted = tiles_of(good, poisoned)
    assert (done.tiles, done.left_out) == (2 * KEPT, ())
    pictures = {path.read_bytes() for path in wanted.out.glob("*/*-*.png")}
    assert len(pictures) == KEPT  # the same of both


@pytest.mark.parametrize(
    ("other", "words"),
    [
        pytest.param({"compression": "lzma"}, "packed in a way", id="packing"),
        pytest.param({"resolution": (0, 0)}, "does not say how many", id="no resolution"),
        pytest.param({"resolutionunit": 1}, "does not say how many", id="no unit"),
    ],
)
def test_what_cannot_be_cut_is_said(good: Path, other: dict[str, object], words: str) -> None:
    done, _ = tiles_of(good, write_tiff(good.with_name("odd.tif"), specimen(), **other))
    assert words in reason(done)


def test_grey_slides_and_glass_are_told_from_slides_with_pen(good: Path) -> None:
    grey = write_tiff(good.with_name("g.tif"), specimen()[..., 1], photometric="minisblack")
    assert "grey or fluorescence" in reason(tiles_of(good, grey)[0])
    glass = write_tiff(good.with_name("g.tif"), np.full((512, 512, 3), 243, np.uint8))
    assert "darker than glass" in reason(tiles_of(good, glass)[0])


def test_an_objective_is_told_and_not_contradicted(good: Path) -> None:
    silent = write_svs(good.with_name("silent.svs"), specimen(), mpp="")
    assert "its objective is 20x" in reason(tiles_of(good, silent)[0])
    out = good.parents[1]
    done, _ = tiles_of(good, silent, slide_mpp=0.25, out=out / "wrong")
    assert "about 0.5 micrometres" in reason(done)
    done, _ = tiles_of(good, silent, slide_mpp=0.46, cut=TileCut(64, 0.46), out=out / "right")
    assert (done.slides, done.left_out) == (2, ())


def unlinked(slide: Path) -> None:
    slide.unlink()


def cut_short(slide: Path) -> None:
    os.truncate(slide, 1000)


def grown(slide: Path) -> None:
    """As by a copy that goes on; what was read is as it was."""
    with slide.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize(
    ("change", "words"),
    [(unlinked, "missing"), (cut_short, "changed while it was"), (grown, "changed while it was")],
)
def test_a_slide_that_changes_while_it_is_cut_gives_no_tiles_in_this_run(
    good: Path, change: Callable[[Path], None], words: str
) -> None:
    other = write_pyramid(good.with_name("other.tif"), specimen())
    write_csv(good.parent, [("good.svs", "x", "P1"), ("other.tif", "x", "P2")], HEADER)
    wanted = request(good.parent)

    changed = []

    def show(at: TilingProgress) -> None:
        if at.share > 0.5 and not changed:
            changed.append(at)
            change(good)

    done = tile_slides(wanted, show)
    assert words in reason(done)
    assert (done.slides, done.tiles) == (1, KEPT)
    write_svs(good, specimen())
    again = tile_slides(wanted, lambda at: None)
    assert (again.slides, again.left_out) == (2, ())
    assert other.exists()


def test_files_that_no_row_names_are_counted(good: Path) -> None:
    (good.parent / "below").mkdir()
    for name in ("second.svs", "below/third.TIF", "faulty.ndpi", "notes.txt", ".metadata.csv.swp"):
        (good.parent / name).write_bytes(good.read_bytes())
    rows = [("GOOD.svs", "x", "P1"), ("Faulty.ndpi", "", "P2"), ("gone.svs", "x", "P3")]
    write_csv(good.parent, rows, HEADER)
    wanted = request(good.parent)
    done = tile_slides(wanted, lambda at: None)
    assert (done.slides, len(done.left_out), done.unnamed) == (1, 2, 2)


def test_a_file_in_a_folder_s_place_is_called_one(good: Path) -> None:
    with pytest.raises(ConfigError, match=r"good\.svs is a file"):
        tiles_of(good, out=good)
    file = request(good, out=good.parents[1] / "tiles")
    with pytest.raises(DataError, match=r"good\.svs is a file"):
        tile_slides(file, lambda at: None)


def test_a_table_without_rows_says_what_its_rows_are(good: Path) -> None:
    write_csv(good.parent, [], HEADER)
    empty = request(good.parent)
    with pytest.raises(DataError) as error:
        tile_slides(empty, lambda at: None)
    assert "list every slide there" in error.value.hint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_names_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "slide.jsonl"
    with SlideJournal(path, "1-1") as journal:
        os.dup2(os.open("/dev/full", os.O_WRONLY), journal._file)
        with pytest.raises(OSError, match="No space left") as error:
            journal.finish()
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))

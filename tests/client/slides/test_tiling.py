"""Whole slides into a folder that training reads: complete, private, and again after a kill."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.data import load_site_data
from privacy.errors import ConfigError, DataError
from tests.client.pictures import write_csv
from tests.client.slides.making import CANARY, GREEN_PEN, LABEL, specimen, write_pyramid, write_svs

openslide = pytest.importorskip("openslide", reason="the extra `slides` is not installed")

from client.slides import cutting, run  # noqa: E402
from client.slides.cutting import TilingRequest  # noqa: E402
from client.slides.filters import TileRules  # noqa: E402
from client.slides.grid import TileCut  # noqa: E402
from client.slides.run import TilingProgress, TilingSummary, tile_slides  # noqa: E402

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "data" / "slides" / "cmu-1-small-region.svs"
HEADER = ("file_name", "text", "patient_id", "organ")
SLIDE = f"{CANARY} S21-1234.svs"


def make_slides(folder: Path) -> Path:
    """Two slides of two patients."""
    folder.mkdir()
    write_svs(folder / SLIDE, specimen())
    write_pyramid(folder / "second.tif", specimen(seed=1))
    rows = [(SLIDE, 'a "round", pink piece', "P 1", "skin"), ("second.tif", "two", "P2", "")]
    write_csv(folder, rows, HEADER)
    return folder


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    return make_slides(tmp_path / "slides")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[TilingSummary, Path]:
    """What a run told, and its folder; not to be changed."""
    wanted = request(make_slides(tmp_path_factory.mktemp("finished") / "slides"))
    return cut(wanted), wanted.out


def request(slides: Path, **other: object) -> TilingRequest:
    known = {"cut": TileCut(64, 0.5), "rules": TileRules(0.4, 0.05)}
    return TilingRequest(slides, slides.parent / "tiles", **{**known, **other})


def cut(wanted: TilingRequest) -> TilingSummary:
    return tile_slides(wanted, lambda at: None)


def table(out: Path) -> list[dict[str, str]]:
    with (out / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, bytes]:
    """Every file of the folder, without what is only there for going on."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".tiling" not in path.parts
    }


def test_training_reads_what_was_cut(finished: tuple[TilingSummary, Path]) -> None:
    done, out = finished
    data = load_site_data(out)
    assert (len(data.tiles), data.patients, data.quarantined) == (done.tiles, 2, ())
    assert done.tiles > 30
    assert {tile.caption for tile in data.tiles} == {'a "round", pink piece', "two"}
    assert {tile.organ for tile in data.tiles} == {"skin", ""}
    assert len({tile.slide for tile in data.tiles}) == 2


def test_tiles_show_the_tissue_at_their_place(finished: tuple[TilingSummary, Path]) -> None:
    _, out = finished
    whole = specimen()
    first = [row for row in table(out) if row["patient_id"] == "p1"]
    for row in first[:5]:
        column, number = map(int, Path(row["file_name"]).stem.split("-"))
        part = whole[64 * number : 64 * (number + 1), 64 * column : 64 * (column + 1)]
        assert np.array_equal(np.asarray(Image.open(out / row["file_name"])), part)


def test_neither_glass_nor_pen_is_kept(finished: tuple[TilingSummary, Path]) -> None:
    _, out = finished
    for row in table(out):
        tile = np.asarray(Image.open(out / row["file_name"]))
        assert (tile != GREEN_PEN).any(axis=-1).mean() > 0.94
        assert (tile.min(axis=-1) < 200).mean() >= 0.4


def test_labels_and_macro_photographs_are_never_read(
    slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with openslide.OpenSlide(slides / SLIDE) as slide:  # they are there, and would be found
        assert {"label", "macro"} <= set(slide.associated_images)
        assert np.asarray(slide.associated_images["label"])[0, 0, :3].tolist() == list(LABEL)

    def refuse(*arguments: object) -> None:
        raise AssertionError("an associated image was asked for")

    for name in vars(openslide.lowlevel):
        if "associated" in name:
            monkeypatch.setattr(openslide.lowlevel, name, refuse)
    wanted = request(slides)
    cut(wanted)
    for path in wanted.out.rglob("*.png"):
        assert not (np.asarray(Image.open(path).convert("RGB")) == LABEL).all(axis=-1).any(), path


def test_a_label_that_poses_as_a_level_is_not_read(slides: Path) -> None:
    import tifffile

    tiled = {"compression": "zlib", "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(slides / "second.tif") as slide:
        known = {"resolution": (20000, 20000), "resolutionunit": 3}
        slide.write(specimen(), tile=(128, 128), **tiled, **known)
        label = np.full((64, 96, 3), LABEL, np.uint8)
        slide.write(label, tile=(64, 64), subfiletype=1, **tiled)
    with openslide.OpenSlide(slides / "second.tif") as opened:
        assert opened.level_count == 2  # OpenSlide takes it for one
    wanted = request(slides, cut=TileCut(64, 4.0), rules=TileRules(0.1, 1.0))
    cut(wanted)
    sheets = [np.asarray(Image.open(path)) for path in wanted.out.rglob("*.png")]
    assert not any((sheet == LABEL).all(axis=-1).any() for sheet in sheets)


def test_no_file_is_named_after_slide_or_patient_or_says_what_the_slide_does(
    finished: tuple[TilingSummary, Path],
) -> None:
    _, out = finished
    for path in out.rglob("*"):
        assert not {"canary", "meyer", "s21", "p1", "second"} & set(path.name.lower().split("-"))
        assert path.stat().st_mode & 0o077 == 0, path
        if path.is_file() and path.name != "slides.csv":
            assert CANARY.encode() not in path.read_bytes(), path
    names = dict(csv.reader((out / "slides.csv").open(newline="")))
    assert set(names.values()) == {"file", SLIDE, "second.tif"}
    assert {row["slide_id"] for row in table(out)} == set(names) - {"name"}


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.client.slides.test_tiling import request, tile_slides

def show(at):
    if at.slide == 2 and at.share > 0.5:
        os.kill(os.getpid(), signal.SIGKILL)

tile_slides(request(Path(sys.argv[1])), show)
"""


def test_a_killed_run_goes_on_and_ends_with_the_same(slides: Path) -> None:
    wanted = request(slides)
    cut(wanted)
    whole = contents(wanted.out)
    key = (wanted.out / ".tiling" / "key").read_bytes()
    shutil.rmtree(wanted.out)
    (wanted.out / ".tiling").mkdir(parents=True)
    (wanted.out / ".tiling" / "key").touch(0o600)
    (wanted.out / ".tiling" / "key").write_bytes(key)

    done = subprocess.run([sys.executable, "-c", KILLED, slides], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    there = contents(wanted.out)
    assert "metadata.csv" not in there
    assert 0 < len(there) < len(whole)
    times = {path: path.stat().st_mtime_ns for path in wanted.out.rglob("*-*.png")}

    cut(wanted)
    assert contents(wanted.out) == whole
    again = [path for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert len(again) <= 1


def test_what_a_power_cut_has_spoilt_is_cut_again(slides: Path) -> None:
    wanted = request(slides)
    cut(wanted)
    whole = contents(wanted.out)
    for journal in (wanted.out / ".tiling").glob("*.jsonl"):
        journal.write_bytes(journal.read_bytes()[:-30])  # torn, and without its end
    tiles = sorted(wanted.out.rglob("*-*.png"))
    tiles[0].write_bytes(b"")
    tiles[1].unlink()
    cut(wanted)
    assert contents(wanted.out) == whole


def test_a_finished_slide_is_not_opened_again(
    slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = request(slides)
    first = cut(wanted)
    monkeypatch.setattr("client.slides.cutting.WholeSlide", None)
    assert cut(wanted) == first


def test_a_tile_that_somebody_deleted_is_out_of_the_table(slides: Path) -> None:
    wanted = request(slides)
    first = cut(wanted)
    gone = table(wanted.out)[3]["file_name"]
    (wanted.out / gone).unlink()
    assert cut(wanted).tiles == first.tiles - 1
    assert gone not in {row["file_name"] for row in table(wanted.out)}
    assert load_site_data(wanted.out).quarantined == ()


def test_a_slide_that_has_changed_is_cut_anew(slides: Path) -> None:
    wanted = request(slides)
    cut(wanted)
    write_pyramid(slides / "second.tif", specimen(seed=9))
    before = contents(wanted.out)
    cut(wanted)
    changed = {name for name, data in contents(wanted.out).items() if before.get(name) != data}
    names = dict(csv.reader((wanted.out / "slides.csv").open(newline="")))
    assert {names[name.split("/")[0]] for name in changed if "/" in name} == {"second.tif"}


def test_other_options_or_another_folder_are_refused(slides: Path, tmp_path: Path) -> None:
    wanted = request(slides)
    cut(wanted)
    with pytest.raises(ConfigError, match=r"--mpp 0\.5"):
        cut(replace(wanted, cut=TileCut(64, 1.0)))
    with pytest.raises(ConfigError, match="holds other files"):
        cut(replace(wanted, out=slides))


def test_two_at_once_are_refused(slides: Path) -> None:
    wanted = request(slides)

    def second(at: TilingProgress) -> None:
        with pytest.raises(ConfigError, match="Another process"):
            cut(wanted)

    tile_slides(wanted, second)


def test_broken_slides_are_left_out_with_a_reason_and_the_run_goes_on(slides: Path) -> None:
    Image.fromarray(specimen(128)).save(slides / "plain.tif")
    damaged = write_pyramid(slides / "damaged.tif", specimen()).read_bytes()
    middle = len(damaged) // 2
    (slides / "damaged.tif").write_bytes(
        damaged[: middle - 2000] + bytes(4000) + damaged[middle + 2000 :]
    )
    write_pyramid(slides / "silent.tif", specimen(), per_cm=None)
    write_pyramid(slides / "screen.tif", specimen(), per_cm=28)  # 72 dpi, as programs write it
    write_pyramid(slides / "glass.tif", np.full((512, 512, 3), 245, np.uint8))
    write_pyramid(slides / "shared.tif", specimen())
    os.mkfifo(slides / "pipe.tif")
    rows = [(SLIDE, "one", "P1", ""), (SLIDE, "one", "P1", ""), ("second.tif", "two", "", "")]
    names = ("plain", "damaged", "silent", "screen", "glass", "shared", "pipe", "missing")
    rows += [(f"{name}.tif", name, f"of {name}", "") for name in names]
    rows += [("shared.tif", "shared", "somebody else", ""), ("../x.svs", "x", "P9", "")]
    write_csv(slides, rows, HEADER)
    wanted = request(slides)
    done = cut(wanted)
    with (wanted.out / "quarantine.csv").open(newline="") as file:
        reasons = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    expected = {
        SLIDE: "listed before",
        "second.tif": "patient_id is empty",
        "plain.tif": "not a slide that OpenSlide knows",
        "damaged.tif": "cannot be read",
        "silent.tif": "--slide-mpp 0.25",
        "screen.tif": "--slide-mpp 0.25",
        "glass.tif": "nothing on it is darker than glass",
        "shared.tif": "listed for several patients",
        "pipe.tif": "not a regular file",
        "missing.tif": "the file is missing",
        "../x.svs": "leads outside",
    }
    assert set(reasons) == set(expected)
    for name, words in expected.items():
        assert words in reasons[name], name
    assert done.slides == 1
    assert {row["patient_id"] for row in table(wanted.out)} == {"p1"}
    given = replace(wanted, slide_mpp=0.5, out=wanted.out.with_name("given"))
    assert cut(given).slides == 3


def test_what_nobody_foresaw_costs_one_slide_and_is_named(
    slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its kind alone: what a library says may quote the file."""

    def cut_slide(*given: Any) -> Any:
        if given[2].name == SLIDE:
            raise MemoryError(CANARY)
        return cutting.cut_slide(*given)

    monkeypatch.setattr(run, "cut_slide", cut_slide)
    wanted = request(slides)
    assert cut(wanted).slides == 1
    assert {row["patient_id"] for row in table(wanted.out)} == {"p2"}
    with (wanted.out / "quarantine.csv").open(newline="") as file:
        (row,) = csv.reader(list(file)[1:])
    assert row == [SLIDE, "damaged slide (MemoryError)"]


def test_where_no_slide_can_be_used_the_reason_is_said_and_kept(slides: Path) -> None:
    write_csv(slides, [("gone.svs", "x", "P1", "")], HEADER)
    wanted = request(slides)
    with pytest.raises(DataError) as error:
        cut(wanted)
    assert "the file is missing" in error.value.hint
    assert "gone.svs,the file is missing" in (wanted.out / "quarantine.csv").read_text()
    assert not (wanted.out / "metadata.csv").exists()


def test_a_slide_that_left_the_table_is_named_and_not_listed(slides: Path) -> None:
    wanted = request(slides)
    cut(wanted)
    names = {file: name for name, file in csv.reader((wanted.out / "slides.csv").open(newline=""))}
    write_csv(slides, [(SLIDE, "one", "P1", "skin")], HEADER)
    done = cut(wanted)
    assert done.unlisted == (names["second.tif"],)
    assert {row["patient_id"] for row in table(wanted.out)} == {"p1"}


def test_most_bounds_each_slide_and_spreads_over_it(slides: Path) -> None:
    wanted = request(slides, most=9)
    done = cut(wanted)
    assert done.tiles == 18
    places = [Path(row["file_name"]).stem.split("-") for row in table(wanted.out)[:9]]
    assert len({row for _, row in places}) > 3
    first = contents(wanted.out)
    cut(wanted)
    assert contents(wanted.out) == first


def test_the_sheet_shows_every_slide_that_was_opened(finished: tuple[TilingSummary, Path]) -> None:
    done, out = finished
    (sheet,) = done.sheets
    shown = np.asarray(Image.open(sheet))
    for colour in ((0, 130, 60), (200, 30, 30)):  # frames of kept tiles, and of those with pen
        assert (shown == colour).all(axis=-1).sum() > 1000
    assert not list(out.glob("*.svs"))


@pytest.mark.skipif(not REAL.is_file(), reason="the real slide (../shared/data/slides) is not here")
def test_a_real_slide_gives_real_tiles(tmp_path: Path) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "scan.svs").symlink_to(REAL)
    write_csv(folder, [("scan.svs", "skin", "P1", "skin")], HEADER)
    wanted = request(folder, cut=TileCut(256, 0.5))
    done = cut(wanted)
    assert 25 <= done.tiles <= 50
    assert load_site_data(wanted.out).patients == 1

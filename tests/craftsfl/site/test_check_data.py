"""`craftsfl site check`, the data: each kind of trouble is found, and names nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.data import load_site_data
from client.data.likeness import alike, likeness_hash
from client.data.metadata import read_rows
from craftsfl.site.check.data import SeenData, check_data
from craftsfl.site.check.finding import CheckId, Finding
from craftsfl.site.check.looks import Looks
from tests.client.pictures import HEADER, write_csv

SIDE = 64
Rows = list[tuple[str, ...]]


def tissue(seed: int, side: int = SIDE) -> Image.Image:
    """Coarse structure, as tissue has it, so that a scaled copy looks the same."""
    coarse = np.random.default_rng(seed).integers(60, 240, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def sound(folder: Path, patients: int = 6, tiles: int = 2) -> Rows:
    rows: Rows = []
    for patient in range(patients):
        for tile in range(tiles):
            name = f"canary-{patient}-{tile}.png"
            tissue(10 * patient + tile).save(folder / name)
            rows.append((name, f"canary text {patient}", f"canary-person-{'abcdefgh'[patient]}"))
    return rows


def seen(folder: Path, rows: Rows, header: tuple[str, ...] = HEADER) -> SeenData:
    write_csv(folder, rows, header)
    looks = Looks(folder / "looks.json")
    data = load_site_data(folder, look=looks.look)
    looks.keep()
    by_row = {tile.row: looks.seen[tile.path] for tile in data.tiles}
    return SeenData(data, read_rows(folder), by_row, SIDE)


def findings(found: SeenData) -> dict[CheckId, str]:
    return {item.id: item.words for item in check_data(found) if isinstance(item, Finding)}


def test_nothing_is_found_in_a_sound_folder(tmp_path: Path) -> None:
    assert findings(seen(tmp_path, sound(tmp_path))) == {}


def broken(folder: Path, rows: Rows) -> None:
    (folder / rows[4][0]).write_bytes(b"no picture")


def large(folder: Path, rows: Rows) -> None:
    for number in range(30):
        tissue(1000 + number).save(folder / f"more-{number}.png")
        rows.append((f"more-{number}.png", "more", "canary-person-a"))


def slides(folder: Path, rows: Rows) -> None:
    rows[:] = [(name, text, f"{person}{n}.svs") for n, (name, text, person) in enumerate(rows)]


def shared(folder: Path, rows: Rows) -> None:
    (folder / rows[3][0]).write_bytes((folder / rows[0][0]).read_bytes())


def again(folder: Path, rows: Rows) -> None:
    with Image.open(folder / rows[0][0]) as first:
        first.resize((48, 48)).resize((SIDE, SIDE)).save(folder / rows[3][0])


def named(folder: Path, rows: Rows) -> None:
    rows[6] = (rows[6][0], "Frau Musterfrau, 12.03.1950", rows[6][2])


def one_text(folder: Path, rows: Rows) -> None:
    rows[:] = [(name, "tissue", person) for name, _, person in rows]


def black(folder: Path, rows: Rows) -> None:
    tissue(77).point(lambda value: value // 16).save(folder / rows[5][0])


def blank(folder: Path, rows: Rows) -> None:
    Image.new("RGB", (SIDE, SIDE), (243, 243, 243)).save(folder / rows[5][0])


def transparent(folder: Path, rows: Rows) -> None:
    picture = tissue(78).convert("RGBA")
    picture.putalpha(100)
    picture.save(folder / rows[5][0])


def small(folder: Path, rows: Rows) -> None:
    tissue(79, 32).save(folder / rows[5][0])


def oblong(folder: Path, rows: Rows) -> None:
    tissue(80, 128).crop((0, 0, 128, 96)).save(folder / rows[5][0])


def gone(folder: Path, rows: Rows) -> None:
    for name, *_ in rows:
        (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "id", "words"),
    [
        (broken, CheckId.QUARANTINE, "1 left out: 1 x not an image of a known format"),
        (gone, CheckId.NO_TILES, "None of 12 rows is a usable tile"),
        (large, CheckId.ONE_LARGE_ID, "One id of 6 has 32 of 42 tiles (see row 1)"),
        (slides, CheckId.IDS_DOUBTFUL, "12 of 12 ids look like names of slide or image files"),
        (
            shared,
            CheckId.SAME_PICTURE,
            "2 entries show files that stand under several ids: rows 1, 4",
        ),
        (
            again,
            CheckId.ALIKE_PICTURES,
            "1 pairs of pictures of different patients look alike: rows 1",
        ),
        (named, CheckId.CAPTIONS_NAMES, "row 7"),
        (one_text, CheckId.CAPTIONS_SAME, "All 12 captions are one text"),
        (black, CheckId.NEAR_BLACK, "1 of 12 pictures are nearly black: row 6"),
        (blank, CheckId.BLANK, "1 of 12 pictures show next to nothing: row 6"),
        (transparent, CheckId.CHANNELS_IGNORED, "transparent parts, which count as white: row 6"),
        (small, CheckId.ENLARGED, "smaller than the model's 64 x 64 pixels: row 6"),
        (oblong, CheckId.CROPPED, "1 of 12 pictures are not square: row 6"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:20]),
)
def test_each_kind_of_trouble_is_found(
    tmp_path: Path, spoil: Callable[[Path, Rows], None], id: CheckId, words: str
) -> None:
    rows = sound(tmp_path)
    spoil(tmp_path, rows)
    found = findings(seen(tmp_path, rows))
    assert words in found[id]
    assert set(found) <= {id, CheckId.QUARANTINE}
    for canary in ("canary", "Musterfrau", "1950"):
        assert canary not in " ".join(found.values())


def test_a_second_look_reads_no_picture_that_is_the_same_file(tmp_path: Path) -> None:
    rows = sound(tmp_path)
    broken(tmp_path, rows)
    first = seen(tmp_path, rows)
    kept = Looks(tmp_path / "looks.json")
    again = load_site_data(tmp_path, look=kept.look)
    assert kept.fresh == 0
    assert again == first.data
    tissue(99).save(tmp_path / rows[0][0])
    changed = Looks(tmp_path / "looks.json")
    assert load_site_data(tmp_path, look=changed.look).tiles[0].digest != again.tiles[0].digest
    assert changed.fresh == 1
    assert (tmp_path / "looks.json").stat().st_mode & 0o077 == 0
    assert "canary" not in (tmp_path / "looks.json").read_text()


@pytest.mark.parametrize("data", [b"", b"[]", b'{"version": 1, "looks": {"a": [1, 2]}}', b"\xff"])
def test_looks_that_cannot_be_read_are_made_again(tmp_path: Path, data: bytes) -> None:
    rows = sound(tmp_path, patients=2)
    write_csv(tmp_path, rows)
    (tmp_path / "looks.json").write_bytes(data)
    looks = Looks(tmp_path / "looks.json")
    assert len(load_site_data(tmp_path, look=looks.look).tiles) == looks.fresh == 4


def test_the_folder_is_read_as_the_agent_reads_it(tmp_path: Path) -> None:
    rows = sound(tmp_path)
    for spoil in (broken, small, oblong, transparent):
        spoil(tmp_path, rows)
    assert seen(tmp_path, rows).data == load_site_data(tmp_path)


def test_hashes_far_apart_are_no_pair_and_one_patients_never() -> None:
    hashes = [likeness_hash(tissue(seed).convert("L")) for seed in range(40)]
    assert list(alike(hashes, range(40))) == []
    assert list(alike([*hashes, hashes[3]], [*range(40), 3])) == []
    assert list(alike([*hashes, hashes[3]], [*range(40), 99])) == [(3, 40)]
    assert list(alike([], [])) == []

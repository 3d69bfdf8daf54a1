"""One patient more, of the worst kind, changes nothing for anybody else.

Each attack is a patient's rows and files as an adversary would choose them. Through the agent's
own start, in any place of the table, over restarts, and after the patient's removal, every other
patient has the same line, tiles, captions and order, byte for byte.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from client.agent.startup import LoadedSite, load
from client.agent.state import StateFolder
from client.data import SiteData
from client.data.delimited import LONGEST_CELL, records
from client.patients import open_patients
from client.trainer.loading import load_data

from .hospital import write_hospital
from .pictures import noise
from .studies import make_study

COLUMNS = ("file_name", "text", "patient_id", "slide_id", "mask")
MALLORY = "mallory"
Row = tuple[str, ...]
Attack = Callable[[Path, Sequence[Row]], Sequence[Row | bytes]]


@dataclass(frozen=True)
class World:
    """A hospital's data folder and an agent's state; its table can be written anew."""

    site: LoadedSite
    folder: Path
    state: StateFolder

    def start(self) -> SiteData:
        """As the agent reads its data when it starts."""
        with open_patients(self.state.path) as patients:
            return load_data(self.site, self.state, patients)

    def others(self) -> dict[bytes, list[tuple[object, ...]]]:
        """What everybody but Mallory takes part with after a start, by line."""
        data = self.start()
        with open_patients(self.state.path) as patients:
            lines = {patients.key.line(name) for name in IDS}
        assert lines <= set(data.lines)
        found: dict[bytes, list[tuple[object, ...]]] = {line: [] for line in lines}
        for tile in data.tiles:
            if data.lines[tile.patient] in lines:
                digest = hashlib.sha256(tile.path.read_bytes()).digest()
                what = (digest, tile.path, tile.caption, tile.slide, tile.mask)
                found[data.lines[tile.patient]].append(what)
        return found


IDS = ("p1", "case-00001a1", "7", "s21-12345", "p-\u00e9", "anna")
TILES = 2


def honest_rows(folder: Path) -> list[Row]:
    """Rows of six patients, with captions that need quoting, among them one in two places."""
    rows = []
    for number, patient in enumerate(IDS):
        for tile in range(TILES):
            name = f"tile-{number}-{tile}.png"
            noise(16, 16, seed=number * TILES + tile).save(folder / name)
            caption = f'glands, "open" lumens;\nsecond line {number}'
            rows.append((name, caption, patient, f"slide-{tile}", ""))
    return [*rows[TILES:], *rows[:TILES]]


def csv_line(row: Row) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue().encode("utf-8", "surrogateescape")


def write_table(folder: Path, rows: Sequence[Row | bytes]) -> None:
    """As a sound export writes values; bytes are a line that somebody wrote by hand."""
    lines = [row if isinstance(row, bytes) else csv_line(row) for row in (COLUMNS, *rows)]
    (folder / "metadata.csv").write_bytes(b"".join(lines))


def copies_of_everybodys_tiles(folder: Path, rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows:
        shutil.copyfile(folder / row[0], folder / f"copy-{row[0]}")
        yield (f"copy-{row[0]}", "x", MALLORY, "", "")


def everybodys_file_names(folder: Path, rows: Sequence[Row]) -> Iterator[Row]:
    return ((row[0], "x", MALLORY, row[3], row[0]) for row in rows)


def everybodys_rows_under_an_own_id(folder: Path, rows: Sequence[Row]) -> Iterator[Row]:
    return ((*row[:2], MALLORY, *row[3:]) for row in rows)


def links_to_everybodys_files(folder: Path, rows: Sequence[Row]) -> Iterator[Row]:
    for number, row in enumerate(rows):
        (folder / f"link-{number}.png").symlink_to(row[0])
        yield (f"link-{number}.png", "x", MALLORY, "", "")
        yield (f"./{row[0]}", "x", MALLORY, "", f"link-{number}.png")


def one_row_very_often(folder: Path, rows: Sequence[Row]) -> list[Row]:
    return [(rows[0][0], "x", MALLORY, "", "")] * 500


def files_that_are_no_tiles(folder: Path, rows: Sequence[Row]) -> Iterator[Row]:
    (folder / "broken.png").write_bytes((folder / rows[0][0]).read_bytes()[:50])
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "outside.png").symlink_to("/etc/hostname")
    with (folder / "hole.png").open("wb") as file:
        file.truncate(2**40)
    names = ("broken", "empty", "folder", "pipe", "loop", "outside", "hole", "missing", "n" * 5000)
    for name in (*(f"{name}.png" for name in names), "..", "/etc/hostname", "metadata.csv", "\0"):
        yield (name, "x", MALLORY, "", name)


def captions_of_all_kinds(folder: Path, rows: Sequence[Row]) -> Iterator[Row]:
    noise(16, 16, seed=77).save(folder / "own.png")
    injected = "\n" + csv_line((rows[0][0], "x", IDS[0], "", "")).decode()
    texts = ("x" * (LONGEST_CELL + 1), "y" * LONGEST_CELL, "", "\0", '"', injected, "\x1b[2J", "\r")
    return (("own.png", text, MALLORY, text, "") for text in (*texts, rows[0][1], "\udcff"))


def ids_that_make_the_rules_fire(folder: Path, rows: Sequence[Row]) -> list[Row]:
    names = ("case-00001a2", "S21-12346", "S21-12347", "H 19/12345", "1234567-A1", "1234568-A1")
    return [(row[0], "x", name, "", "") for row, name in zip(rows, names, strict=False)]


def ids_that_look_like_others(folder: Path, rows: Sequence[Row]) -> Iterator[Row]:
    names = ("\u0440\u044f1", "p1.", "70", "7.5", "-7", "ann\u0434", "p-e", "", "nan", "\u200b")
    hostile = ("0" * 200_000 + "x", "\ufdfa" * 250, "9" * 250 + ".0", "p1\udcff")
    return ((rows[0][0], "x", name, "", "") for name in (*names, *hostile))


def quotes_that_never_close(folder: Path, rows: Sequence[Row]) -> list[bytes]:
    return [
        b'own.png,"x,mallory,,\n',
        b'"\n',
        b'own.png,x,"mallory,,\n',
        b'own.png,"x"y,mallory,,\n',
    ]


def cells_too_many_and_too_few(folder: Path, rows: Sequence[Row]) -> list[bytes]:
    return [b"own.png,x,mallory,,,,,,\n", b"own.png\n", b",\n", b"\n", b",,,,,,,,,,,,\n"]


def bytes_that_are_no_text(folder: Path, rows: Sequence[Row]) -> list[bytes]:
    return [
        b"own.png,\xff\xfe,mallory,,\n",
        b"\xff.png,x,mallory,,\n",
        b"own.png,x,\xe9,,\n",
        b"\0\n",
    ]


ATTACKS: tuple[Attack, ...] = (
    copies_of_everybodys_tiles,
    everybodys_file_names,
    everybodys_rows_under_an_own_id,
    links_to_everybodys_files,
    one_row_very_often,
    files_that_are_no_tiles,
    captions_of_all_kinds,
    ids_that_make_the_rules_fire,
    ids_that_look_like_others,
    quotes_that_never_close,
    cells_too_many_and_too_few,
    bytes_that_are_no_text,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Six patients whom the agent has never seen."""
    site = load(write_hospital(tmp_path, study=make_study()))
    shutil.rmtree(tmp_path / "tiles")
    (tmp_path / "tiles").mkdir()
    (tmp_path / "state").mkdir()
    with open_patients(tmp_path / "state"):
        pass  # register and key are made
    return World(site, tmp_path / "tiles", StateFolder(tmp_path / "state"))


def in_another_state(world: World, name: str) -> World:
    """The same key and the same history, in a state folder of its own."""
    path = world.state.path.with_name(name)
    shutil.copytree(world.state.path, path)
    return World(world.site, world.folder, StateFolder(path))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_everybody_else_stays_byte_for_byte(world: World, attack: Attack) -> None:
    rows = honest_rows(world.folder)
    write_table(world.folder, rows)
    from_the_start = in_another_state(world, "attacked from the start")
    wanted = world.others()
    assert [len(tiles) for tiles in wanted.values()] == [TILES] * len(IDS)
    later = in_another_state(world, "attacked later")
    hostile = list(attack(world.folder, rows))
    for place in (0, len(rows) // 2, len(rows)):
        write_table(world.folder, [*rows[:place], *hostile, *rows[place:]])
        for attacked in (from_the_start, later):
            assert attacked.others() == wanted
            assert attacked.others() == wanted
    write_table(world.folder, rows)
    assert from_the_start.others() == later.others() == wanted


def json_table(folder: Path, rows: Sequence[Row]) -> None:
    lines = [json.dumps(dict(zip(COLUMNS, row, strict=True))) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def parquet_table(folder: Path, rows: Sequence[Row]) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        name: _utf8_or_not(arrow, [row[index] for row in rows])
        for index, name in enumerate(COLUMNS)
    }
    parquet.write_table(arrow.table(columns), folder / "metadata.parquet")


def _utf8_or_not(arrow: Any, texts: Sequence[str]) -> Any:
    """A column of texts as a careless writer makes it: nobody checks the bytes."""
    values = arrow.array([text.encode("utf-8", "surrogateescape") for text in texts])
    return arrow.Array.from_buffers(arrow.string(), len(values), values.buffers())


@pytest.mark.parametrize("write", [json_table, parquet_table])
def test_everybody_else_stays_in_the_other_formats(
    world: World, write: Callable[[Path, Sequence[Row]], None]
) -> None:
    rows = honest_rows(world.folder)
    write(world.folder, rows)
    wanted = world.others()
    hostile: list[Row] = []
    for attack in ATTACKS:
        hostile += [row for row in attack(world.folder, rows) if not isinstance(row, bytes)]
    for place in (0, len(rows) // 2, len(rows)):
        write(world.folder, [*rows[:place], *hostile, *rows[place:]])
        assert world.others() == wanted
    write(world.folder, rows)
    assert world.others() == wanted


LINES = (
    "{broken",
    "[" * 100_000,
    '{"file_name": ' + "9" * 10_000 + "}",
    '{"file_name": "tile-0-0.png", "text": {"a": 1}, "patient_id": 1e400}',
    '{"file_name": "tile-0-0.png", "text": NaN, "patient_id": -Infinity}',
    '{"patient_id": "p1", "patient_id": "7"}',
    '"a text"',
    "\ufeff{}",
)


def test_everybody_else_stays_whatever_a_line_of_json_holds(world: World) -> None:
    rows = honest_rows(world.folder)
    json_table(world.folder, rows)
    wanted = world.others()
    table = world.folder / "metadata.jsonl"
    honest, hostile = table.read_bytes(), "\n".join(LINES).encode() + b"\n\xff\xfe\n"
    for text in (b"\n" + hostile + honest, honest + hostile):
        table.write_bytes(text)
        assert world.others() == wanted


def test_who_withdraws_takes_nobody_along(world: World) -> None:
    """With everybody's pictures, under everybody's file names."""
    rows = honest_rows(world.folder)
    write_table(world.folder, rows)
    wanted = world.others()
    hostile = [row for attack in ATTACKS[:4] for row in attack(world.folder, rows)]
    write_table(world.folder, [*hostile, *rows])
    assert world.others() == wanted
    with open_patients(world.state.path) as patients:
        assert patients.register.withdraw(patients.key.line(MALLORY))
        line = patients.key.line(MALLORY)
    assert world.others() == wanted
    data = world.start()
    assert line in data.lines
    assert data.lines.index(line) not in {tile.patient for tile in data.tiles}


def test_everybody_keeps_the_number_whatever_becomes_of_mallorys_files(world: World) -> None:
    """And Mallory too: the number is the place in a step of which the study has everybody."""
    rows = honest_rows(world.folder)
    for name in ("first", "last"):
        noise(16, 16, seed=99).save(world.folder / f"mallory-{name}.png")
    mine: list[Row] = [(f"mallory-{name}.png", "x", MALLORY, "", "") for name in ("first", "last")]
    write_table(world.folder, [mine[0], *rows, mine[1]])
    before = world.start()
    for name in ("first", "last"):
        (world.folder / f"mallory-{name}.png").write_bytes(b"no picture any more")
    after = world.start()
    assert after.lines == before.lines
    assert (after.patients, after.enrolled) == (len(IDS), len(IDS) + 1)
    assert after.tiles == before.tiles[1:-1]
    (world.folder / "metadata.csv").unlink()
    write_table(world.folder, [(*mine[0][:1], "", *mine[0][2:]), *rows])
    assert world.start().lines == before.lines


def test_one_blank_tile_of_everybody_makes_nobody_one(world: World) -> None:
    rows = honest_rows(world.folder)
    (world.folder / "blank.png").write_bytes((world.folder / rows[0][0]).read_bytes())
    rows += [("blank.png", "nothing", name, "", "") for name in IDS]
    write_table(world.folder, rows)
    for _ in range(2):
        assert [len(tiles) for tiles in world.others().values()] == [TILES + 1] * len(IDS)
        assert world.start().patients == len(IDS)


def test_nobody_elses_rows_are_needed(world: World) -> None:
    """Everybody goes, one after the other, down to an empty table: it starts all the same."""
    rows = honest_rows(world.folder)
    while rows:
        write_table(world.folder, rows)
        assert world.start().patients == len({row[2] for row in rows})
        rows = [row for row in rows if row[2] != rows[0][2]]
    write_table(world.folder, [])
    assert world.start().tiles == ()


def test_a_table_of_a_sound_export_is_read_as_pythons_reader_reads_it() -> None:
    values = ("", "a", '"', '""', "a,b", "a\nb", '",\n"', " x ", '"a"b', "\u00e9")
    rows = [[one, other, one + other] for one in values for other in values]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    assert list(records(text.getvalue(), cells=3)) == rows
    assert list(csv.reader(io.StringIO(text.getvalue(), newline=""))) == rows

"""Register and key together: lost halves are found, ids are nowhere to be read."""

from __future__ import annotations

import logging
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data import load_site_data, patient_key
from client.patients import open_patients
from client.patients.lines import KEY, REGISTER
from client.patients.spellings import former_spellings
from privacy.errors import LedgerError
from tests.client.pictures import write_csv, write_folder


def digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def test_tiles_get_the_lines_of_their_patients(tmp_path: Path) -> None:
    with open_patients(tmp_path) as patients:
        lines = patients.lines_of([("p1", digest("a")), ("p2", digest("b")), ("p1", digest("c"))])
        assert lines[0] == lines[2] == patients.find("p1")
        assert lines[1] == patients.find("p2") != lines[0]
        assert patients.find("p3") is None
    with open_patients(tmp_path) as patients:
        assert patients.lines_of([("p1", digest("x"))]) == [lines[0]]
        assert patients.lines_of([("q1", digest("c"))]) == [patients.key.line("q1")]


@pytest.mark.parametrize("lost", [KEY, REGISTER])
def test_a_lost_half_is_not_replaced(tmp_path: Path, lost: str) -> None:
    with open_patients(tmp_path) as patients:
        patients.lines_of([("p1", digest("a"))])
    (tmp_path / lost).unlink()
    with pytest.raises(LedgerError, match=rf"{lost} is missing.*Restore"), open_patients(tmp_path):
        pass


def test_an_emptied_register_is_a_lost_one(tmp_path: Path) -> None:
    with open_patients(tmp_path) as patients:
        patients.lines_of([("p1", digest("a"))])
    (tmp_path / REGISTER).write_bytes(b"")
    with pytest.raises(LedgerError, match="would come back"), open_patients(tmp_path):
        pass


def test_a_foreign_key_is_found(tmp_path: Path) -> None:
    with open_patients(tmp_path):
        pass
    (tmp_path / KEY).write_bytes(bytes(32))
    with pytest.raises(LedgerError, match="belongs to another key"), open_patients(tmp_path):
        pass


def test_a_crash_before_the_key_was_written_needs_no_hand(tmp_path: Path) -> None:
    from client.patients import Register

    Register(tmp_path / REGISTER).close()
    with open_patients(tmp_path) as patients:
        assert patients.find("p1") is None


def test_nothing_on_disk_names_a_patient_or_shows_a_tile(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiles", patients=4)
    state = tmp_path / "state"
    state.mkdir()
    with open_patients(state) as patients:
        data = load_site_data(folder, lines_of=patients.lines_of)
        assert len(data.lines) == data.patients == 4
        kept = b"".join(path.read_bytes() for path in state.iterdir())
    assert b"canary" not in kept
    for path in folder.glob("*.png"):
        assert sha256(path.read_bytes()).digest() not in kept


def test_ids_that_a_person_has_merged_are_clipped_as_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    folder = write_folder(tmp_path / "tiles", patients=3)
    with open_patients(state) as patients:
        before = load_site_data(folder, lines_of=patients.lines_of)
        patients.register.merge(*(patients.key.line(f"canary-patient-{n}") for n in (2, 0)))
        with caplog.at_level(logging.INFO):
            after = load_site_data(folder, lines_of=patients.lines_of)
        name = patients.key.short(patients.key.line("canary-patient-2"))
    assert before.patients == 3
    assert [tile.patient for tile in after.tiles] == [0, 0, 1, 1, 0, 0]
    assert after.lines == before.lines[:2]
    assert f"Merged with another id of the same person: {name}." in caplog.text
    assert "canary" not in caplog.text


def test_a_file_that_both_ids_of_one_person_list_is_there_once(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiles", patients=2, tiles=1)
    write_csv(folder, [("canary-file-0-0.png", "x", "a"), ("canary-file-0-0.png", "y", "b")])
    (tmp_path / "state").mkdir()
    with open_patients(tmp_path / "state") as patients:
        assert len(load_site_data(folder, lines_of=patients.lines_of).tiles) == 2
        patients.register.merge(patients.key.line("a"), patients.key.line("b"))
        data = load_site_data(folder, lines_of=patients.lines_of)
    assert [tile.caption for tile in data.tiles] == ["x"]
    assert [entry.reason for entry in data.quarantined] == ["listed before"]


FORMER = ["'00123", "\u201900123", '="00123"', "123,0", "1.23e+02", "1,23e2"]


@pytest.mark.parametrize("former", FORMER)
def test_who_withdrew_under_a_former_spelling_stays_out(tmp_path: Path, former: str) -> None:
    """An earlier version kept these apart from 123; `lines_of` is given what it gave."""
    assert patient_key(former) == "123"
    with open_patients(tmp_path) as patients:
        (line, other) = patients.lines_of([(former, digest("a")), ("124", digest("b"))])
        patients.register.withdraw(line)
    with open_patients(tmp_path) as patients:
        assert patients.find("123") == line
        (now, same) = patients.lines_of([("123", digest("a")), ("124", digest("b"))])
        assert now in patients.register.withdrawn()
        assert same == other
        assert same not in patients.register.withdrawn()


def test_former_spellings_that_a_person_separated_stay_apart(tmp_path: Path) -> None:
    with open_patients(tmp_path) as patients:
        patients.lines_of([("'p9", digest("a"))])
        (line,) = patients.lines_of([("p9", digest("a"))])
        assert line == patients.find("p9") == patients.find("'p9")
        patients.register.separate(line)
        assert patients.lines_of([("p9", digest("a"))]) == [patients.key.line("p9")]


@given(
    number=st.integers(0, 10**12),
    width=st.integers(0, 12),
    shape=st.sampled_from(
        [
            "'{}",
            '="{}"',
            "{},0",
            "{},00",
            "{:.{d}e}",
            "{:.{d}E}",
            "+{}",
            "\u201c{}\u201d",
            "{}\u2019",
        ]
    ),
)
def test_every_spelling_has_its_former_key(number: int, width: int, shape: str) -> None:
    digits = str(number).zfill(width)
    if "d" in shape:
        exact = len(str(number)[1:].rstrip("0"))
        text = shape.format(number, d=exact)
    else:
        text = shape.format(digits)
    if patient_key(text) == str(number) != text:
        assert text.casefold() in set(former_spellings(str(number)))


@pytest.mark.parametrize(
    ("now", "before"),
    [
        ("1234567", "1.234.567"),
        ("1234567", "1,234,567"),
        ("1234", "1'234"),
        ("123", "\u0661\u0662\u0663"),
        ("p-1", "p\u20131"),
        ("p-1", "\u201ep-1\u201c"),
    ],
)
def test_what_was_another_patient_until_now_is_found(now: str, before: str) -> None:
    assert patient_key(before) == now
    assert before in set(former_spellings(now))

"""Register and key together: lost halves are found, ids are nowhere to be read."""

from __future__ import annotations

import logging
from hashlib import sha256
from pathlib import Path

import pytest

from client.data import load_site_data
from client.patients import open_patients
from client.patients.lines import KEY, REGISTER
from privacy.errors import LedgerError
from tests.client.pictures import noise, write_csv, write_folder


def digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def test_tiles_get_the_lines_of_their_patients(tmp_path: Path) -> None:
    with open_patients(tmp_path) as patients:
        lines = patients.lines_of([("p1", digest("a")), ("p2", digest("b")), ("p1", digest("c"))])
        assert lines[0] == lines[2] == patients.find("p1")
        assert lines[1] == patients.find("p2") != lines[0]
        assert patients.find("p3") is None
    with open_patients(tmp_path) as patients:
        assert patients.lines_of([("q1", digest("c"))]) == [lines[0]]


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


def test_a_folder_under_new_ids_has_the_patients_of_the_old_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Renamed patients, a new folder and one tile more: nobody's line starts anew."""
    state = tmp_path / "state"
    state.mkdir()
    with open_patients(state) as patients:
        old = load_site_data(write_folder(tmp_path / "old", patients=3), lines_of=patients.lines_of)
        new = write_folder(tmp_path / "new", patients=3)
        noise(seed=99).save(new / "extra.png")
        table = (new / "metadata.csv").read_text().replace("canary-patient-", "renamed-")
        (new / "metadata.csv").write_text(table + "extra.png,text,renamed-1\n")
        with caplog.at_level(logging.INFO):
            again = load_site_data(new, lines_of=patients.lines_of)
        names = [patients.key.short(patients.key.line(f"renamed-{n}")) for n in range(3)]
    assert again.lines == old.lines
    assert again.patients == 3
    assert len(again.tiles) == 7
    assert f"the same patients as before: {', '.join(names)}." in caplog.text
    assert "renamed" not in caplog.text


def test_patients_that_turn_out_to_be_one_are_clipped_as_one(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with open_patients(state) as patients:
        folder = write_folder(tmp_path / "tiles", patients=3, tiles=1)
        assert load_site_data(folder, lines_of=patients.lines_of).patients == 3
        noise(seed=50).save(folder / "new.png")
        rows = [("canary-file-0-0.png", "x", "b"), ("new.png", "x", "a")]
        write_csv(folder, [*rows, ("canary-file-1-0.png", "x", "a")])
        # "a" is what was patient 1; "b" what was patient 0
        data = load_site_data(folder, lines_of=patients.lines_of)
        assert [tile.patient for tile in data.tiles] == [0, 1, 1]
        write_csv(folder, [("canary-file-0-0.png", "x", "a"), ("new.png", "x", "b")])
        assert load_site_data(folder, lines_of=patients.lines_of).patients == 1

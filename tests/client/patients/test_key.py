"""The patients' key: private, whole, one; lines that say nothing without it."""

from __future__ import annotations

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from client.patients import PatientKey, load_or_make_patient_key
from privacy.errors import LedgerError


def test_a_key_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "patients.key"
    made = load_or_make_patient_key(path)
    assert load_or_make_patient_key(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == made.secret
    assert [file.name for file in tmp_path.iterdir()] == ["patients.key"]


def test_many_that_make_it_at_once_end_with_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(load_or_make_patient_key, [tmp_path / "patients.key"] * 8))
    assert len({key.secret for key in keys}) == 1


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_damaged_key_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "patients.key").write_bytes(bytes(length))
    (tmp_path / "patients.key").chmod(0o600)
    with pytest.raises(LedgerError, match=r"key is damaged.*Restore"):
        load_or_make_patient_key(tmp_path / "patients.key")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be used"):
        load_or_make_patient_key(tmp_path / "nowhere" / "patients.key")


def test_lines_depend_on_key_and_use() -> None:
    key, other = PatientKey(bytes(32)), PatientKey(bytes(31) + b"\1")
    digest = hashlib.sha256(b"p1").digest()
    values = [key.line("p1"), key.line("p2"), other.line("p1"), key.content(digest), key.check()]
    assert len(set(values)) == len(values)
    assert {len(value) for value in values} == {32}
    assert key.line("p1") == PatientKey(bytes(32)).line("p1")
    assert hashlib.sha256(b"p1").digest() not in values


def test_the_name_in_logs_is_salted_and_short() -> None:
    key, other = PatientKey(bytes(32)), PatientKey(bytes(31) + b"\1")
    line = key.line("p1")
    assert len(key.short(line)) == 8
    assert key.short(line) != other.short(line)
    assert key.short(line) not in line.hex()
    assert "\\x00" not in repr(key)

"""A bundle's outside: one byte string for the same files, and nothing else is read."""

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.audit.archive import LARGEST_BUNDLE, read_archive, write_archive
from privacy.audit.packs import packed_rows, unpacked_rows
from privacy.errors import AuditError

FILES = {"bundle.json": b"{}", "sites/north/ledger.bin": b"\0" * 9, "a-b/c": b""}


def zipped(names: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in names.items():
            file.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def test_what_was_written_is_read_and_any_zip_program_reads_it() -> None:
    data = write_archive(FILES)
    assert read_archive(data) == FILES
    assert write_archive(dict(reversed(FILES.items()))) == data
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        assert {name: file.read(name) for name in file.namelist()} == FILES
        assert file.testzip() is None


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8}){0,3}", fullmatch=True), st.binary()))
def test_any_files(files: dict[str, bytes]) -> None:
    assert read_archive(write_archive(files)) == files


def test_every_other_byte_string_is_refused() -> None:
    data = write_archive(FILES)
    for at in range(len(data)):
        with pytest.raises(AuditError):
            read_archive(data[:at])
        for bit in (1, 128):
            other = bytearray(data)
            other[at] ^= bit
            try:
                found = read_archive(bytes(other))
            except AuditError:
                continue
            raise AssertionError((at, bit, found))
    with pytest.raises(AuditError):
        read_archive(data + b"\0")


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/etc/passwd",
        "a/../b",
        "a//b",
        "a\\b",
        "C:x",
        "A",
        ".x",
        "a/",
        "x" * 65,
        "a/b/c/d/e",
    ],
)
def test_no_name_leaves_the_folder(name: str) -> None:
    with pytest.raises(AuditError):
        write_archive({name: b""})
    with pytest.raises(AuditError):
        read_archive(zipped({name: b""}))


def test_a_zip_bomb_is_refused_before_anything_is_unpacked() -> None:
    bomb = zipped({"bundle.json": b"\0" * 50_000_000}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    with pytest.raises(AuditError, match="compressed"):
        read_archive(bomb)


def test_files_that_lie_over_each_other_or_are_there_twice_are_refused() -> None:
    with pytest.warns(UserWarning), pytest.raises(AuditError):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("a", b"1")
            file.writestr("a", b"2")
        read_archive(buffer.getvalue())


def test_other_files_are_no_archives() -> None:
    for data in (b"", b"PK", b"hello" * 100, b"\x89PNG\r\n" * 10, b"PK\x05\x06" + bytes(10)):
        with pytest.raises(AuditError):
            read_archive(data)
    assert read_archive(write_archive({})) == {}


def test_nothing_larger_than_allowed_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("privacy.audit.archive.LARGEST_BUNDLE", 200)
    with pytest.raises(AuditError, match="at most 200"):
        write_archive({"a": bytes(200)})
    assert LARGEST_BUNDLE == 1 << 30


@given(st.lists(st.binary()))
def test_lists(items: list[bytes]) -> None:
    assert unpacked_rows(packed_rows(items)) == items


def test_lists_that_are_cut_or_too_long_are_refused() -> None:
    data = packed_rows([b"one", b"two"])
    for at in (1, 3, 5, 8, 12):
        with pytest.raises(AuditError):
            unpacked_rows(data[:at])
    with pytest.raises(AuditError, match="more than 1"):
        unpacked_rows(data, 1)
    with pytest.raises(AuditError):
        unpacked_rows(b"\xff\xff\xff\xff" + bytes(100))

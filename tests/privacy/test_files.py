from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from privacy import files
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, LedgerError
from privacy.files import (
    RefusedFile,
    open_to_append,
    read_private,
    replacing,
    told_if_unwritable,
    write_at,
    write_private,
    write_private_once,
    write_public,
)

WRITERS = [write_private, write_public]


@pytest.mark.parametrize("write", WRITERS)
def test_what_was_there_is_replaced_whole(tmp_path: Path, write: Callable[..., None]) -> None:
    file = tmp_path / "kept"
    for data in (b"first, and longer", b"second"):
        write(file, data)
        assert file.read_bytes() == data
    assert list(tmp_path.iterdir()) == [file]


def test_a_private_file_is_its_owners_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "private", b"")
        write_public(tmp_path / "public", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o644  # nobody else writes


@pytest.mark.parametrize("write", WRITERS)
def test_a_link_at_the_place_itself_is_replaced_and_not_followed(
    tmp_path: Path, write: Callable[..., None]
) -> None:
    victim, file = tmp_path / "victim", tmp_path / "kept"
    victim.write_bytes(b"untouched")
    file.symlink_to(victim)
    write(file, b"data")
    assert victim.read_bytes() == b"untouched"
    assert not file.is_symlink()


@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_planted_under_the_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dangling: bool
) -> None:
    """Even one who could guess the random name: the file is made exclusively."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda length: "guessed")
    victim = tmp_path / "victim"
    if not dangling:
        victim.write_bytes(b"untouched")
    (tmp_path / ".kept.guessed").symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "kept", b"secret")
    assert not (tmp_path / "kept").exists()
    assert victim.exists() is not dangling
    assert dangling or victim.read_bytes() == b"untouched"


def test_temporary_names_do_not_repeat(tmp_path: Path) -> None:
    seen = set()
    for _ in range(20):
        with replacing(tmp_path / "kept"):
            (part,) = tmp_path.glob(".kept.*")
            seen.add(part.name)
    assert len(seen) == 20
    assert all(len(name) == len(".kept.") + 16 for name in seen)


def test_where_it_fails_the_old_file_stays_and_nothing_is_left(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    write_private(file, b"old")

    def fail() -> None:
        with replacing(file) as stream:
            stream.write(b"half")
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_private(tmp_path / "gone" / "kept", b"")


def test_an_error_says_what_cannot_be_written_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "gone" / "file"
    told = told_if_unwritable(path, "Free some space.", LedgerError, id=ErrorId.LEDGER_DAMAGED)
    with pytest.raises(LedgerError) as caught, told:
        files.write_private(path, b"")
    said = (caught.value.message, caught.value.hint, caught.value.id)
    words = f"{path} cannot be written: No such file or directory."
    assert said == (words, "Free some space.", ErrorId.LEDGER_DAMAGED)
    told = told_if_unwritable(path, "Free some space.")
    with pytest.raises(ConfigError, match="written: it is a link") as refused, told:
        raise files.RefusedFile(path, "it is a link", "Put the file itself there.")
    assert (refused.value.hint, refused.value.id) == ("Put the file itself there.", "config")


def test_nobody_writes_a_file_under_a_temporary_name_of_their_own() -> None:
    """One function does, so that no writer forgets what a planted link could do to it."""
    root = Path(files.__file__).parent.parent
    packages = ("craftsfl", "client", "server", "strategies", "model", "privacy")
    sources = [file for name in packages for file in (root / name).rglob("*.py")]
    allowed = {
        "privacy/files.py",
        "model/cache.py",  # from a folder that tempfile has made, random and of mode 0700
        "client/training/encoding.py",  # the same
        # SQLite and Flower's scripts write to a path, in a folder of the operator's alone
        "craftsfl/processes/flower/superlink_db.py",
        "craftsfl/rounds/exporting/export.py",  # a folder, made anew under a random name
        "model/lab/stage_one/checkpoints.py",  # a folder, made anew with mode 0700
        "model/lab/stage_one/export.py",  # within the run's own folder, whose files exist already
    }
    moves = re.compile(r"\b\w*\.(rename|replace)\((?:path|target|out|file|record|self\.file)\b")
    found = {str(file.relative_to(root)) for file in sources if moves.search(file.read_text())}
    assert found <= allowed
    assert "model/cache.py" in found  # the pattern still finds something


def test_files_are_opened_for_writing_and_locked_in_one_place() -> None:
    """Everything with flags of its own is here, so that no caller forgets one."""
    root = Path(files.__file__).parent.parent
    packages = ("craftsfl", "client", "server", "strategies", "model", "privacy")
    sources = [file for name in packages for file in (root / name).rglob("*.py")]
    low = re.compile(r"\bO_(CREAT|EXCL|APPEND|WRONLY|RDWR)\b|\bflock\(|\bmkstemp\(|\bos\.link\(")
    found = {str(file.relative_to(root)) for file in sources if low.search(file.read_text())}
    # A system call filter compares these flags; it opens nothing.
    assert found - {"client/gateway/calls.py"} == {"privacy/files.py"}


def test_a_file_is_made_once_and_nothing_is_replaced(tmp_path: Path) -> None:
    write_private_once(tmp_path / "kept", b"first")
    with pytest.raises(FileExistsError):
        write_private_once(tmp_path / "kept", b"second")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        write_private_once(tmp_path / "link", b"third")
    assert {file.name for file in tmp_path.iterdir()} == {"kept", "link"}
    assert (tmp_path / "kept").read_bytes() == b"first"


def test_it_is_made_once_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    write_private_once(tmp_path / "kept", b"first")
    with pytest.raises(FileExistsError):
        write_private_once(tmp_path / "kept", b"second")
    assert list(tmp_path.iterdir()) == [tmp_path / "kept"]
    assert (tmp_path / "kept").read_bytes() == b"first"
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o600


def test_whoever_came_second_has_the_folder_on_disk_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first may not have come that far, and the second goes on with its file."""
    write_private_once(tmp_path / "kept", b"first")
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    with pytest.raises(FileExistsError):
        write_private_once(tmp_path / "kept", b"second")
    assert synced == [tmp_path]


def test_the_largest_file_that_is_allowed_is_read(tmp_path: Path) -> None:
    write_private(tmp_path / "kept", b"12345")
    assert read_private(tmp_path / "kept", 5) == b"12345"
    with pytest.raises(RefusedFile, match="more than 4 bytes"):
        read_private(tmp_path / "kept", 4)


def test_a_change_in_place_keeps_the_rest_and_makes_no_file(tmp_path: Path) -> None:
    write_private(tmp_path / "kept", b"12345")
    write_at(tmp_path / "kept", 1, b"ab")
    assert (tmp_path / "kept").read_bytes() == b"1ab45"
    with pytest.raises(FileNotFoundError):
        write_at(tmp_path / "gone", 0, b"ab")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    with pytest.raises(RefusedFile, match="symbolic link"):
        write_at(tmp_path / "link", 0, b"ab")


def test_a_log_is_appended_to_and_not_through_a_link(tmp_path: Path) -> None:
    for line in (b"first\n", b"second\n"):
        with os.fdopen(open_to_append(tmp_path / "log"), "ab") as stream:
            stream.write(line)
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\n"
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with pytest.raises(RefusedFile, match="symbolic link"):
        open_to_append(tmp_path / "link")

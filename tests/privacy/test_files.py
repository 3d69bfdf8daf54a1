from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from privacy import files
from privacy.files import replacing, write_private, write_public

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
    assert stat.S_IMODE((tmp_path / "public").stat().st_mode) == 0o666


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


def test_nobody_writes_a_file_under_a_temporary_name_of_their_own() -> None:
    """One function does, so that no writer forgets what a planted link could do to it."""
    root = Path(files.__file__).parent.parent
    packages = ("craftsfl", "client", "server", "strategies", "model", "privacy")
    sources = [file for name in packages for file in (root / name).rglob("*.py")]
    allowed = {
        "privacy/files.py",
        "model/cache.py",  # from a folder that tempfile has made, random and of mode 0700
        "client/training/encoding.py",  # the same
        "model/lab/stage_one/checkpoints.py",  # a folder, made anew with mode 0700
        "model/lab/stage_one/export.py",  # within the run's own folder, whose files exist already
        "privacy/ledger/files.py",  # made exclusively, linked to its name: never replaces
    }
    moves = re.compile(r"\b\w*\.(rename|replace)\((?:path|target|out|file|record|self\.file)\b")
    found = {str(file.relative_to(root)) for file in sources if moves.search(file.read_text())}
    assert found <= allowed
    assert "model/cache.py" in found  # the pattern still finds something

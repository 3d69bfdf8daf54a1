from __future__ import annotations

from pathlib import Path

import pytest

from privacy.errors import LedgerError
from privacy.ledger import load_or_make_key
from privacy.ledger.key import public_bytes


def test_it_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    key = load_or_make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == 32
    assert public_bytes(load_or_make_key(path)) == public_bytes(key)
    assert list(tmp_path.iterdir()) == [path]
    assert public_bytes(load_or_make_key(tmp_path / "other")) != public_bytes(key)


def test_what_a_killed_start_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    part = tmp_path / ".ledger.key.0123"
    part.write_bytes(b"half")
    load_or_make_key(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_lost_key_is_not_replaced_beside_its_ledger(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    ledger.write_bytes(b"records")
    with pytest.raises(LedgerError, match=r"is missing.*Restore it"):
        load_or_make_key(tmp_path / "ledger.key", ledger=ledger)
    assert list(tmp_path.iterdir()) == [ledger]
    ledger.write_bytes(b"")  # killed at its very first start
    load_or_make_key(tmp_path / "ledger.key", ledger=ledger)


@pytest.mark.parametrize("data", [b"", bytes(31), bytes(33)])
def test_a_damaged_key_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "ledger.key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(LedgerError, match="damaged"):
        load_or_make_key(path)
    assert path.read_bytes() == data


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.key"
    load_or_make_key(path)
    path.chmod(0o640)
    with pytest.raises(LedgerError, match=r"others can read or change it.*chmod 600"):
        load_or_make_key(path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="Check that its folder exists"):
        load_or_make_key(tmp_path / "absent" / "ledger.key")

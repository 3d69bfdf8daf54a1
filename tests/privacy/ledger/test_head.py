from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import LedgerError
from privacy.ledger import Head
from privacy.ledger.files import HeadFile
from privacy.ledger.head import HEAD_BYTES, VERSION, sign_head
from privacy.ledger.key import public_bytes

from .ledgers import SIGNING_KEY

LEDGER, HASH = b"\x11" * 16, b"\x22" * 32
HEAD = Head(LEDGER, 258, HASH, public_bytes(SIGNING_KEY), sign_head(SIGNING_KEY, LEDGER, 258, HASH))
BYTES = bytes.fromhex(
    "01"  # version
    + "11" * 16  # ledger
    + "0000000000000102"  # sequence
    + "22" * 32  # hash
    + "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"  # public key
)


def test_its_bytes_are_these() -> None:
    assert HEAD.to_bytes() == BYTES + HEAD.signature
    assert len(HEAD.to_bytes()) == HEAD_BYTES
    assert Head.from_bytes(HEAD.to_bytes()) == HEAD
    HEAD.verify()


@pytest.mark.parametrize(
    "change",
    [
        {"ledger": b"\x12" * 16},
        {"sequence": 257},
        {"hash": b"\x23" * 32},
        {"signature": bytes(64)},
        {"public_key": public_bytes(Ed25519PrivateKey.from_private_bytes(bytes(32)))},
        {"public_key": b"\xff" * 32},
    ],
)
def test_every_field_is_signed(change: dict[str, object]) -> None:
    with pytest.raises(LedgerError, match=r"signature of the head .* is wrong"):
        replace(HEAD, **change).verify()  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", BYTES, HEAD.to_bytes() + b"\0"])
def test_bytes_of_another_length_are_refused(data: bytes) -> None:
    with pytest.raises(LedgerError, match="not a ledger head"):
        Head.from_bytes(data)


def test_a_newer_version_is_refused() -> None:
    with pytest.raises(LedgerError, match="version 2"):
        Head.from_bytes(b"\x02" + HEAD.to_bytes()[1:])


@pytest.mark.parametrize("change", [{"hash": b"short"}, {"sequence": -1}, {"sequence": 2**64}])
def test_a_field_that_does_not_fit_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(LedgerError, match="wrong size"):
        replace(HEAD, **change).to_bytes()  # type: ignore[arg-type]


def test_its_text_names_it() -> None:
    assert str(HEAD) == "record 258 of ledger 11111111, 2222222222222222"


def test_a_head_file_of_a_newer_version_is_not_taken_for_damage_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite.head"
    path.write_bytes(bytes([VERSION + 1]) + bytes(152))
    with pytest.raises(LedgerError, match=r"of version 2; .*Install the craftsfl that wrote it"):
        HeadFile(path).read()

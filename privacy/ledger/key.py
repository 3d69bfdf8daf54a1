"""The key that signs a site's ledger: one file of 32 raw bytes, for the agent's user only."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.error_ids import ErrorId
from privacy.errors import LedgerError
from privacy.files import hint_for, read_secret, remove_parts, write_private_once

_SIZE: Final = 32
_LARGEST: Final = 4096  # how much is read of a file that is not a key, to report its length


def load_or_make_key(path: Path, *, ledger: Path | None = None) -> Ed25519PrivateKey:
    """The key in `path`; a new one (mode 0600, on disk) if there is none yet.

    Raises `LedgerError` if the file cannot be read, is not a key, is readable by others, or is
    gone while `ledger`, which it signed, is there.
    """
    try:
        remove_parts(path)
        return _load(path)
    except FileNotFoundError:
        if ledger is not None and ledger.exists() and ledger.stat().st_size > 0:
            raise LedgerError(
                f"The key {path} of the ledger {ledger} is missing.",
                "Restore it from the newest backup of the state folder. Without it the ledger can "
                "be read but not continued. Only if no copy of the key is left: craftsfl site "
                "recover-ledger site.toml starts another one that counts what this one holds.",
                id=ErrorId.LEDGER_KEY_MISSING,
            ) from None
    except OSError as error:
        raise _unusable(path, error) from None
    return _make(path)


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public key."""
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    return key.public_key().public_bytes(*raw)


def _load(path: Path) -> Ed25519PrivateKey:
    data = read_secret(path, _LARGEST)
    if len(data) != _SIZE:
        raise LedgerError(
            f"The ledger's key {path} is damaged: {len(data)} bytes instead of {_SIZE}.",
            "Restore it from the newest backup of the state folder.",
        )
    return Ed25519PrivateKey.from_private_bytes(data)


def _make(path: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    try:
        write_private_once(path, key.private_bytes_raw())
    except FileExistsError:  # another process was faster
        return _load(path)
    except OSError as error:
        raise _unusable(path, error) from None
    return key


def _unusable(path: Path, error: OSError) -> LedgerError:
    return LedgerError(
        f"The ledger's key {path} cannot be used: {error.strerror}.",
        hint_for(error, "Check that its folder exists, its owner and the free space."),
    )

"""A site's identity: an Ed25519 key (RFC 8032) that is made at the site and never leaves it.

The marker of its ledger (`privacy.ledger.marker`) is made together with the key and stays next to
it.

Guarantees, each with a test: the file is a secret as `privacy.files` defines it, and never
overwrites another; with a passphrase it is encrypted; no text or error shows the private half.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy.errors import ConfigError
from privacy.files import hint_for, read_private, read_secret, write_private_once

PUBLIC_BYTES: Final = 32
LOST_KEY: Final = (
    "Check the path, or restore the file from its backup. If a site's key is lost for good: "
    "craftsfl site init in a new folder makes another, and the operator needs its card."
)
MARKER_BYTES: Final = 1024  # the length of a marker that names no ledger yet: all zeros

_GROUPS: Final = 6  # of five digits each: 30 digits are 99 bits, too many to search a look-alike
_GROUP_BYTES: Final = 5  # each group is 40 bits modulo 100,000
A_STUDYS_KEY: Final = "Keep it if a study names it; else choose another path."
_SITES_KEY: Final = (
    "Keep it if it is the site's key: rosters name it. Otherwise move it away first."
)
_FINGERPRINT: Final = b"craftsfl/fingerprint/v1\0"
_MAX_FILE: Final = 4096


class Identity:
    """A site's private key. Its text shows only the fingerprint of the public half."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public: Final = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Identity:
        """A new identity from the system's randomness, not stored anywhere."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Identity:
        """The identity of a 32-byte seed (RFC 8032, 5.1.5); for test vectors."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes; always the same one for the same message."""
        return self._key.sign(message)

    def pem(self, passphrase: bytes | None) -> bytes:
        """PKCS #8 as PEM, encrypted if a passphrase is given."""
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            protection = serialization.BestAvailableEncryption(passphrase)
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
        )

    def write_new(
        self, path: Path, passphrase: bytes | None, *, if_there: str, parents: bool = False
    ) -> None:
        """Keep the key in the new file `path` (mode 0600); `parents`: in a folder that is made too.

        Raises `ConfigError` where it cannot be made, and with the hint `if_there` where it exists.
        """
        try:
            if parents:
                path.parent.mkdir(parents=True, exist_ok=True)
            write_private_once(path, self.pem(passphrase))
        except FileExistsError:
            raise _exists(path, if_there) from None
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be made: {error.strerror}.",
                "Check the path, its folder's owner, and the disk's free space.",
            ) from None

    def __repr__(self) -> str:
        return f"Identity({fingerprint(self.public)})"


def make_identity(path: Path, passphrase: bytes | None = None) -> Identity:
    """Make a new identity in the file `path` (mode 0600); `ConfigError` if the file exists."""
    identity = Identity.generate()
    if os.path.lexists(path):
        raise _exists(path, _SITES_KEY)
    _make_marker(marker_path(path))  # first, because a key without its marker is refused
    identity.write_new(path, passphrase, if_there=_SITES_KEY)
    return identity


def marker_path(key: Path) -> Path:
    """Where the marker of the identity in the file `key` lies."""
    return key.with_name(f"{key.name}.ledger")


def _exists(path: Path, hint: str) -> ConfigError:
    return ConfigError(f"{path} already exists.", hint)


def _make_marker(path: Path) -> None:
    """A marker that names no ledger; `ConfigError` where one names the ledger of a lost key."""
    try:
        write_private_once(path, bytes(MARKER_BYTES))
    except FileExistsError:
        if not _is_empty(path):
            raise ConfigError(
                f"{path} already exists: it names the ledger of a key that is gone.",
                "Restore that key. To make another identity, choose another folder.",
            ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be made: {error.strerror}.", "Check the path.") from None


def _is_empty(marker: Path) -> bool:
    try:
        return not any(read_private(marker, MARKER_BYTES))
    except OSError:  # a longer one too: it names a ledger
        return False


def load_identity(path: Path, passphrase: bytes | None = None) -> Identity:
    """The identity in the file `path`; `ConfigError` if it is not one, or others can open it."""
    data = read_key_file(path)
    if b"-----BEGIN" not in data:
        raise ConfigError(
            f"{path} is not an identity key: it holds no key at all.",
            "Name the file that craftsfl made for it, or restore that one from its backup.",
        )
    try:
        key = serialization.load_pem_private_key(data, passphrase or None)
    except TypeError:  # a passphrase that is not needed, or a missing one
        state = "not " if passphrase else ""
        raise ConfigError(
            f"{path} is {state}protected by a passphrase.", "Give a passphrase only if it is."
        ) from None
    except ValueError:
        raise ConfigError(
            f"{path} is not an identity key, or the passphrase is wrong.", "Check both."
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} holds another kind of key.", "Make one with craftsfl site init.")
    return Identity(key)


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether `signature` (64 bytes) of `message` was made by the holder of `public` (32 bytes)."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def fingerprint(data: bytes) -> str:
    """Six groups of five digits for a key or a digest, to be read out over the phone."""
    hashed = hashlib.sha256(_FINGERPRINT + data).digest()
    parts = (hashed[at : at + _GROUP_BYTES] for at in range(0, _GROUPS * _GROUP_BYTES, 5))
    return " ".join(f"{int.from_bytes(part, 'big') % 100_000:05d}" for part in parts)


def read_key_file(path: Path) -> bytes:
    """The bytes of a key or passphrase file; `ConfigError` if anyone but its owner can open it."""
    try:
        return read_secret(path, _MAX_FILE)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be used: {error.strerror}.", hint_for(error, LOST_KEY)
        ) from None

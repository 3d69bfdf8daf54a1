"""The head of a ledger: its newest state, signed, small enough to be passed around.

Anyone who keeps a head can later tell whether a ledger still holds everything that it held then.
Bytes: version u8 (1) | ledger 16 | sequence u64 | hash 32 | public key 32 | signature 64; the
signature covers `_TAG | ledger | sequence | hash`. A record is signed by the signature of its head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privacy.errors import LedgerError
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.codec import Reader, Writer
from privacy.wire.reasons import RefusedMessage

_TAG: Final = b"craftsfl/ledger/head/v1\0"
VERSION: Final = 1
HEAD_BYTES: Final = 153


@dataclass(frozen=True, slots=True)
class Head:
    """Record number `sequence` of the ledger `ledger`, and by its hash all records before it."""

    ledger: bytes  # 16 random bytes, made with the ledger
    sequence: int  # 64 bits; 0 is the genesis record
    hash: bytes  # SHA-256 of that record, which holds the hash of the previous one
    public_key: bytes  # Ed25519, 32 bytes: the site's ledger key
    signature: bytes  # Ed25519, 64 bytes

    def __str__(self) -> str:
        return f"record {self.sequence} of ledger {self.ledger.hex()[:8]}, {self.hash.hex()[:16]}"

    @property
    def checkpoint(self) -> Checkpoint:
        """What others keep of it."""
        return Checkpoint(self.ledger, self.sequence + 1, self.hash)

    def is_signed(self) -> bool:
        """Whether the key that the head names has signed it."""
        try:
            key = Ed25519PublicKey.from_public_bytes(self.public_key)
            key.verify(self.signature, signed_bytes(self.ledger, self.sequence, self.hash))
        except (InvalidSignature, ValueError):
            return False
        return True

    def verify(self) -> None:
        """Raise `LedgerError` unless it is signed."""
        if not self.is_signed():
            raise LedgerError(
                f"The signature of the head ({self}) is wrong.",
                "Do not rely on it; get it again from its source.",
            )

    def to_bytes(self) -> bytes:
        """153 bytes, see above."""
        try:
            writer = Writer().u8(VERSION).fixed(self.ledger, 16).u64(self.sequence)
            writer.fixed(self.hash, 32).fixed(self.public_key, 32).fixed(self.signature, 64)
            return writer.done()
        except RefusedMessage as error:
            raise LedgerError("A head has fields of the wrong size.") from error

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """The inverse of `to_bytes`. Raises `LedgerError`; does not look at the signature."""
        reader = Reader(data)
        try:
            version = reader.u8()
            head = cls(
                *(reader.fixed(16), reader.u64(), reader.fixed(32)),
                *(reader.fixed(32), reader.fixed(64)),
            )
            reader.end()
        except RefusedMessage as error:
            raise LedgerError("These bytes are not a ledger head.") from error
        if version != VERSION:
            raise LedgerError(
                f"A ledger head of version {version}; this craftsfl reads version {VERSION}.",
                "Install a newer craftsfl.",
            )
        return head


def signed_bytes(ledger: bytes, sequence: int, digest: bytes) -> bytes:
    """What the signature of a head covers."""
    return _TAG + ledger + sequence.to_bytes(8, "big") + digest


def sign_head(key: Ed25519PrivateKey, ledger: bytes, sequence: int, digest: bytes) -> bytes:
    """The 64-byte signature of a head."""
    return key.sign(signed_bytes(ledger, sequence, digest))

"""What ties a ledger to the roster: the site's identity signs for it, once.

The identity's key (`site.key`, whose public half the roster lists) signs

    _TAG | format u8 | ledger 16 | ledger's public key 32 | site (u16 length, UTF-8) | replaced 56

where `replaced` is the checkpoint of the ledger that this one replaces, zeros for none. From then
on the ledger's own key signs, record by record: the identity may have a passphrase, and people
need it; the ledger's key is used at every append.
"""

# Why: docs/adr/0019-one-ledger-for-one-identity.md

from __future__ import annotations

from typing import Final

from privacy.errors import LedgerError
from privacy.identity import Identity, verify
from privacy.ledger.records import NO_LEDGER, Bound
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.codec import Writer

_TAG: Final = b"craftsfl/ledger/binding/v1\0"
_FORMAT: Final = 3  # of the ledger's file
_LONGEST_SITE: Final = 64


def bind(
    identity: Identity,
    ledger: bytes,
    ledger_key: bytes,
    site: str,
    replaced: Checkpoint = NO_LEDGER,
) -> Bound:
    """The record that binds the ledger (16 bytes) with the public key (32 bytes) to `identity`."""
    signed = _signed_bytes(ledger, ledger_key, site, replaced)
    return Bound(identity.public, identity.sign(signed), replaced)


def check_binding(bound: Bound, ledger: bytes, ledger_key: bytes, site: str) -> None:
    """Raise `LedgerError` unless the identity that `bound` names has signed for this ledger."""
    signed = _signed_bytes(ledger, ledger_key, site, bound.replaced)
    if not verify(bound.identity, bound.signature, signed):
        raise LedgerError("the identity that it names has not signed for this ledger.")


def _signed_bytes(ledger: bytes, ledger_key: bytes, site: str, replaced: Checkpoint) -> bytes:
    writer = Writer().u8(_FORMAT).fixed(ledger, 16).fixed(ledger_key, 32).text(site, _LONGEST_SITE)
    replaced.write(writer)
    return _TAG + writer.done()

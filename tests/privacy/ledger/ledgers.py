"""Ledgers for tests, all with one key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.ledger import Head, SqliteLedger

SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def open_test_ledger(
    path: Path, *, clock: Callable[[], float] = time.time, seen: Iterable[Head] = ()
) -> SqliteLedger:
    """The ledger of the site north."""
    return SqliteLedger(path, SIGNING_KEY, site="north", clock=clock, seen=seen)

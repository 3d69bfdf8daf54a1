"""Ledgers for tests, all with one key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.budget import Book, Limits
from privacy.ledger import (
    Charge,
    Head,
    Ledger,
    LedgerView,
    SqliteLedger,
)
from privacy.ledger.anchors import Anchors

SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def open_test_ledger(
    path: Path,
    *,
    site: str = "north",
    clock: Callable[[], float] = time.time,
    seen: Iterable[Head] = (),
    anchors: Anchors | None = None,
) -> SqliteLedger:
    """The ledger of a site."""
    return SqliteLedger(path, SIGNING_KEY, site=site, clock=clock, seen=seen, anchors=anchors)


def book_of(ledger: Ledger | LedgerView, extra: Charge | None = None) -> Book:
    """What the ledger has charged, and `extra` as if it were charged too."""
    book = Book.of(ledger.entries())
    return book if extra is None else Book((*book.charges, extra))


def spent_by(ledger: Ledger | LedgerView, extra: Charge | None = None) -> float:
    """Epsilon of it, summed over studies."""
    limits = Limits(epsilon=1.0, delta=1e-5, study_epsilon=1.0)
    return book_of(ledger, extra).lifetime_epsilon(limits)


WRITER = """
import sys
from pathlib import Path
from privacy.mechanisms.local import PoissonGaussian
from privacy.ledger import AttemptKey, Charge
from tests.privacy.ledger.ledgers import open_test_ledger
charge = Charge(bytes([1]) * 32, PoissonGaussian(0.5, 6.0, 0.1, 10), 1e-5)
ledger = open_test_ledger(Path(sys.argv[1]))
for attempt in range(100_000):
    key = AttemptKey(charge.study_digest, 7, 1, attempt)
    ledger.intent(key, charge)
    print("intent", attempt, flush=True)
    ledger.commit(key)
    print("commit", attempt, flush=True)
"""

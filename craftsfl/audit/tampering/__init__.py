"""Ways to break a bundle: for people who want to see it found out, and for the bench."""

from craftsfl.audit.tampering import (
    files,
    ledgers,
    log,
    people,
    promotions,
    steps,
    witnesses,
)
from craftsfl.audit.tampering.draft import DishonestKeys, Draft, Tampered
from craftsfl.audit.tampering.kinds import KINDS, NotHere, Tampering, tamper

__all__ = [
    "KINDS",
    "DishonestKeys",
    "Draft",
    "NotHere",
    "Tampered",
    "Tampering",
    "files",
    "ledgers",
    "log",
    "people",
    "promotions",
    "steps",
    "tamper",
    "witnesses",
]

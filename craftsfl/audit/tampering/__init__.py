"""Ways to break a bundle: for people who want to see it found out, and for the bench."""

from craftsfl.audit.tampering import (
    begun_again,
    facts,
    files,
    forms,
    ledgers,
    log,
    people,
    promotions,
    records,
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
    "begun_again",
    "facts",
    "files",
    "forms",
    "ledgers",
    "log",
    "people",
    "promotions",
    "records",
    "steps",
    "tamper",
    "witnesses",
]

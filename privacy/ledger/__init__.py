"""A site's durable record of what was charged."""

from privacy.ledger.attempts import AttemptKey, Charge, Entry, State, StepMark, charged
from privacy.ledger.base import Ledger
from privacy.ledger.head import Head
from privacy.ledger.key import load_or_make_key
from privacy.ledger.sqlite import SqliteLedger
from privacy.ledger.view import LedgerView, read_ledger, record_bytes

__all__ = [
    "AttemptKey",
    "Charge",
    "Entry",
    "Head",
    "Ledger",
    "LedgerView",
    "SqliteLedger",
    "State",
    "StepMark",
    "charged",
    "load_or_make_key",
    "read_ledger",
    "record_bytes",
]

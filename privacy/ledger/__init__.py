"""A site's durable record of what it has spent."""

from privacy.ledger.base import AttemptKey, Charge, Entry, Ledger, State
from privacy.ledger.sqlite import SqliteLedger

__all__ = ["AttemptKey", "Charge", "Entry", "Ledger", "SqliteLedger", "State"]

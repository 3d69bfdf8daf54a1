"""Reading a site's ledger, wholly verified; its agent may be running. Works without torch.

>>> from pathlib import Path
>>> from craftsfl.api.ledger import LedgerError, read_ledger
>>> try:
...     read_ledger(Path("nowhere/ledger.sqlite"))
... except LedgerError as error:
...     print(bool(error.hint))
True

`read_ledger` checks every hash and signature, and the head file next to the ledger; what it
returns is one moment's state and never changes. There is no writing here: a ledger has one writer,
the site agent.
"""

from __future__ import annotations

from privacy.errors import CraftsflError, LedgerError
from privacy.ledger import (
    AttemptKey,
    Charge,
    Entry,
    Head,
    LedgerView,
    State,
    StepMark,
    read_ledger,
)

__all__ = [
    "AttemptKey",
    "Charge",
    "CraftsflError",
    "Entry",
    "Head",
    "LedgerError",
    "LedgerView",
    "State",
    "StepMark",
    "read_ledger",
]

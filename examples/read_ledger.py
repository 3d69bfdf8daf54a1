"""Verify a site's ledger and list what it was charged: `python read_ledger.py LEDGER`.

The file is `state/ledger.sqlite`; the site's agent may be running.
"""

from __future__ import annotations

import sys
from pathlib import Path

from craftsfl.api.accounting import epsilon
from craftsfl.api.ledger import LedgerError, State, read_ledger


def main(path: Path) -> None:
    """Print the ledger's newest checkpoint and the cost of each study."""
    ledger = read_ledger(path)  # every hash and signature is checked, or it raises
    print(f"{ledger.site}: {ledger.head()}")
    charges = [entry.charge for entry in ledger.entries() if entry.state is State.COMMITTED]
    for study in sorted({charge.study_digest for charge in charges}):
        own = [charge for charge in charges if charge.study_digest == study]
        # Noise that is exactly 0 has no epsilon; the library refuses to name one.
        cost = "no privacy"
        if not any(charge.event.no_privacy for charge in own):
            cost = f"epsilon = {epsilon([charge.event for charge in own], own[0].delta):.2f}"
        print(f"study {study.hex()[:16]}: {len(own)} charged attempts, {cost}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]))
    except LedgerError as error:
        sys.exit(f"{error.message} {error.hint}")

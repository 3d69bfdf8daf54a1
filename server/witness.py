"""What the coordinator remembers of the sites' ledgers: a table of the round state, over all runs.

The coordinator sees every advertisement first, so a site with an older or a different ledger drops
out of the attempt before any peer has to refuse it. That is a convenience, not a defence: the
coordinator is not trusted with anything, and every site keeps a table of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from privacy.secagg.witness import Witness
from privacy.wire.checkpoint import Checkpoint
from server.store import Store


class StoredWitness(Witness):
    """The table of `store`. Every method raises `DeploymentError`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def known(self) -> Mapping[bytes, Checkpoint]:
        """See `Witness.known`."""
        return self._store.ledgers()

    def keep(self, newer: Mapping[bytes, Checkpoint]) -> None:
        """See `Witness.keep`."""
        self._store.keep_ledgers(newer)

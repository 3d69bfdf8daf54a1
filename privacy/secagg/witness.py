"""What the sites and the coordinator remember of each other's ledgers, and what they refuse.

A ledger that was restored from an older copy, or started afresh, is consistent in itself: only
those who have seen a newer one can tell. So every `Advertise` carries the site's newest checkpoint,
signed by its identity for this very attempt, and every recipient keeps the newest of each
identity's key. That a later checkpoint continues the earlier one is not proven here: that would
take a log.

What an adversary can do with it, each with a test:

- The coordinator replays an older advertisement: it was signed for another attempt, and fails as
  a signature before the table is looked at. Where it opens two attempts and shows a site the
  newer first, the older one is refused in that attempt alone: the table only ever goes forward.
- A site that claims a later checkpoint than it has shuts nobody out but itself.
- Nobody but the holder of the identity's key changes its entry.
"""

# Why: docs/adr/0019-one-ledger-for-one-identity.md

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from privacy.secagg.refusals import Refused
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check


@dataclass(frozen=True, slots=True)
class Shown:
    """A checkpoint that a site has shown: the site's id in the roster, and its public key."""

    site: int
    public_key: bytes
    checkpoint: Checkpoint


class Witness(ABC):
    """One table: the newest checkpoint of every identity. Not thread-safe."""

    def see(self, shown: Sequence[Shown]) -> None:
        """Remember all of `shown`, durably; `Refused` and no change if one contradicts it."""
        known = self.known()
        for one in shown:
            check = contradiction(known.get(one.public_key), one.checkpoint)
            if check is not None:
                raise Refused(check, one.site)
        newer = {
            one.public_key: one.checkpoint
            for one in shown
            if known.get(one.public_key) != one.checkpoint
        }
        if newer:
            self.keep(newer)

    @abstractmethod
    def known(self) -> Mapping[bytes, Checkpoint]:
        """The newest checkpoint by the identity's public key."""

    @abstractmethod
    def keep(self, newer: Mapping[bytes, Checkpoint]) -> None:
        """Replace the older ones by these; durable on return."""


@dataclass(slots=True)
class MemoryWitness(Witness):
    """A table that ends with the process, for runs within one process."""

    held: dict[bytes, Checkpoint] = field(default_factory=dict)

    def known(self) -> Mapping[bytes, Checkpoint]:
        """See `Witness.known`."""
        return self.held

    def keep(self, newer: Mapping[bytes, Checkpoint]) -> None:
        """See `Witness.keep`."""
        self.held.update(newer)


@dataclass(frozen=True, slots=True)
class Ledgers:
    """The site's own ledger, and what it knows of the others'.

    `journal` records the attempt, durably, and says where the ledger stands with it. Called once,
    for an offer that has passed every check; what it raises is passed on, and nothing has changed.
    """

    journal: Callable[[], Checkpoint]
    witness: Witness


def contradiction(known: Checkpoint | None, shown: Checkpoint) -> Check | None:
    """Why a site that has shown `known` before cannot show `shown` now; None if it can."""
    if known is None:
        return None
    if shown.ledger != known.ledger:
        return Check.OTHER_LEDGER
    if shown.length < known.length:
        return Check.OLDER_LEDGER
    if shown.length == known.length and shown.hash != known.hash:
        return Check.OTHER_LEDGER
    return None


def accepted(ledger: bytes) -> Checkpoint:
    """The table's entry once a person has accepted another ledger for a site."""
    return Checkpoint(ledger, 0, bytes(32))

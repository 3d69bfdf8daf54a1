"""A session whose keys are complete, as the coordinator has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from privacy.secagg.sealed.server import SealedServer


@dataclass
class LiveSession:
    """A session whose keys are complete. `known`: how many opened sums a site is known to hold."""

    number: int
    server: SealedServer
    members: Mapping[str, int]  # roster ids by name
    expiry: float
    lanes: int  # L, of a packed vector
    offered: frozenset[str] = frozenset()  # who was asked for a key; without one: not a member
    asks_again: float = 0.0  # from when on they are asked again (Unix seconds)
    known: dict[str, int] = field(default_factory=dict)
    broken: str = ""  # why no further step can be sealed in it
    log: bool = False  # whether its sites know of a log
    settled: set[str] = field(default_factory=set)  # whose records are all in the log
    unwitnessed: dict[str, str] = field(default_factory=dict)  # who cannot cosign it, and why

    def names(self, sites: Sequence[int]) -> tuple[str, ...]:
        """The names of these members, in order."""
        by_id = {site: name for name, site in self.members.items()}
        return tuple(sorted(by_id[site] for site in sites))

    def ledger_of(self, name: str) -> bytes:
        """The id of the ledger that a member has shown with its key."""
        shown = self.server.ledger_of(self.members[name])
        return b"" if shown is None else shown.ledger

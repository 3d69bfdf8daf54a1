"""What a witness remembers of a log: the checkpoint that it has cosigned last, and its table.

Whoever forgets it cosigns any log again; so it is on disk before a cosignature leaves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from privacy.log.checkpoints import TreeHead
from privacy.log.heads import HeadsTable


@dataclass(frozen=True, slots=True)
class CosignedLog:
    """A checkpoint, and the table of heads that is its last entry."""

    head: TreeHead
    table: HeadsTable


class LogMemory(Protocol):
    """The last of these for every log, by its origin."""

    def last(self, origin: str) -> CosignedLog | None:
        """What was cosigned last of this log; None for the first time."""

    def keep(self, cosigned: CosignedLog) -> None:
        """Remember it in place of the one before; on disk when this returns."""


@dataclass(slots=True)
class ProcessMemory:
    """A memory that ends with the process, for runs within one."""

    held: dict[str, CosignedLog] = field(default_factory=dict)

    def last(self, origin: str) -> CosignedLog | None:
        """See `LogMemory.last`."""
        return self.held.get(origin)

    def keep(self, cosigned: CosignedLog) -> None:
        """See `LogMemory.keep`."""
        self.held[cosigned.head.origin] = cosigned

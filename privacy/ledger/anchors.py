"""What ties the ledger in a file to the site; passed by anyone who opens it to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from privacy.identity import Identity
from privacy.ledger.attempts import AttemptKey, Charge
from privacy.ledger.binding import bind
from privacy.ledger.files import HeadFile
from privacy.ledger.head import Head
from privacy.ledger.records import NO_LEDGER, Charged, Content, Genesis, Intent
from privacy.wire.checkpoint import Checkpoint

INHERITED_RUN: Final = 2**64 - 1  # instead of a run's id: charges of a lost ledger


def _nothing() -> None:
    """Nothing to release."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """The identity that must have signed for the ledger, and the known heads of it.

    `marks` are written at every append, after the ledger and its head file. `rebind`: a person
    has decided that the ledger, though not bound to this identity, belongs to this site.
    `replaced` and `inherited` are for a ledger that replaces a lost one.
    """

    identity: Identity | None = None
    seen: Mapping[str, Head] = field(default_factory=dict)
    marks: tuple[HeadFile, ...] = ()
    rebind: bool = False
    release: Callable[[], None] = _nothing  # when the ledger is closed
    replaced: Checkpoint = NO_LEDGER
    inherited: tuple[Charge, ...] = ()

    def first_records(self, ledger: bytes, ledger_key: bytes, site: str) -> list[Content]:
        """How a new ledger begins; written in one transaction."""
        records: list[Content] = [Genesis(ledger_key, site)]
        if self.identity is not None:
            records.append(bind(self.identity, ledger, ledger_key, site, self.replaced))
        for number, charge in enumerate(self.inherited):
            key = AttemptKey(charge.study_digest, INHERITED_RUN, number, 0)
            records.append(Intent(key, charge))
            records.append(Charged(len(records) - 1))
        return records

"""One ledger as the log has it: batch after batch, each held against those before.

Guarantees, each with a test: a batch that is refused changes nothing; sequences have no gap; each
record holds the hash of the one before, also over what is withheld; the ledger's own key, the one
of its first record, has signed; what records say is checked as in the site's own ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from privacy.error_ids import ErrorId
from privacy.errors import CraftsflError, LedgerError, LogError
from privacy.ledger.attempts import Entry
from privacy.ledger.head import Head
from privacy.ledger.records import NO_PREVIOUS, Bound, Genesis, Record, decode, hash_of
from privacy.ledger.story import LedgerStory, Undo
from privacy.log.batches import RecordBatch, Withheld
from privacy.secagg.roster import Roster


@dataclass(frozen=True, slots=True)
class _Checked:
    """A batch whose hashes and signature hold."""

    records: tuple[Record, ...]  # that are shown
    withheld: int


class LedgerLine:
    """The records of the ledger `ledger` (its 16 bytes) that are in the log so far."""

    def __init__(self, ledger: bytes) -> None:
        self.ledger = ledger
        self.head: Head | None = None  # of the newest record in the log
        self.withheld = 0  # records of other studies
        self._story = LedgerStory(ledger)

    def __len__(self) -> int:
        return 0 if self.head is None else self.head.sequence + 1

    @property
    def site(self) -> str:
        """The site's name, as the ledger has it; "" before its first record."""
        return "" if self._story.genesis is None else self._story.genesis.site

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The attempts that are shown, in the order of their intents."""
        return self._story.entries

    @property
    def bindings(self) -> tuple[Bound, ...]:
        """The identities that have signed for the ledger, one after the other."""
        return tuple(self._story.bindings)

    @property
    def identity(self) -> bytes | None:
        """The identity's public key to which the ledger is bound now."""
        return self._story.bindings[-1].identity if self._story.bindings else None

    def take(self, batch: RecordBatch, allow: Callable[[LedgerLine], object] = len) -> None:
        """Add what follows; `LogError`, and no change, if `batch` does not.

        `allow` is called with what the line then says of itself; what it raises refuses the batch.
        """
        undone: list[Undo] = []
        try:
            checked = self._checked(batch)
            for record in checked.records:
                undone.append(self._story.take(record))
            allow(self)
        except CraftsflError as error:
            for undo in reversed(undone):
                undo()
            raise LogError(
                f"Records from {batch.first} on of the ledger of {self.site or 'a site'} "
                f"({self.ledger.hex()[:8]}) are not taken: {error.message}",
                error.hint
                or "Ask that site whether its state folder was put back, or is in use twice.",
                id=error.id,
            ) from error
        self.head, self.withheld = batch.head, self.withheld + checked.withheld

    def _checked(self, batch: RecordBatch) -> _Checked:
        head, at = batch.head, batch.first
        if at != len(self):
            what = "again" if at < len(self) else "after a gap"
            raise LedgerError(f"record {at} comes {what}; the log has {len(self)} of them.")
        previous = NO_PREVIOUS if self.head is None else self.head.hash
        shown: list[Record] = []
        withheld = 0
        for item in batch.items:
            if isinstance(item, Withheld):
                if at == 0:
                    raise LedgerError("the ledger's first record is withheld.")
                withheld, at, previous = withheld + item.count, at + item.count, item.last
                continue
            record = decode(item)
            self._check_place(record, at, previous)
            shown.append(record)
            at, previous = at + 1, hash_of(item)
        if not batch.items or (head.sequence, head.hash) != (at - 1, previous):
            raise LedgerError("the signed head is not that of the last record.")
        self._check_signed(head, shown)
        return _Checked(tuple(shown), withheld)

    def _check_place(self, record: Record, at: int, previous: bytes) -> None:
        if record.sequence != at or record.ledger != self.ledger:
            raise LedgerError(f"record {at} is of another place or ledger.")
        if record.previous != previous:
            raise LedgerError(
                f"record {at} goes on from another record {at - 1} than the log has.",
                id=ErrorId.LEDGER_OLDER,
            )
        if isinstance(record.content, Genesis) != (at == 0):
            raise LedgerError("a genesis record comes first, and nowhere else.")

    def _check_signed(self, head: Head, shown: Sequence[Record]) -> None:
        genesis = self._story.genesis or (shown[0].content if shown else None)
        if not isinstance(genesis, Genesis) or head.ledger != self.ledger:
            raise LedgerError("it begins without a genesis record.")
        if head.public_key != genesis.public_key or not head.is_signed():
            raise LedgerError("the ledger's own key has not signed it.", id=ErrorId.LEDGER_FOREIGN)


def check_identities(site: str, bindings: Sequence[Bound], rosters: Sequence[Roster]) -> None:
    """Raise `LogError` unless the consortium has named every identity that signed for the ledger.

    `site` is the name in the ledger. An identity that a successor of the roster gives to the site
    is a rotated key; one that no roster gives to it is anybody's.
    """
    if not bindings:
        raise LogError(
            f"The ledger of {site} is bound to no identity: anyone could have made it.",
            "The site binds it once: craftsfl site migrate-ledger site.toml",
            id=ErrorId.LEDGER_FOREIGN,
        )
    named = {
        member.public_key for roster in rosters if (member := roster.member_named(site)) is not None
    }
    for bound in bindings:
        if bound.identity not in named:
            raise LogError(
                f"The ledger of {site} is bound to an identity ({bound.identity.hex()[:16]}…) that "
                f"no roster of the consortium gives to {site}.",
                "Compare the roster's fingerprint by phone. If the key is a new one, the members "
                "have to sign a roster that names it.",
                id=ErrorId.LEDGER_FOREIGN,
            )

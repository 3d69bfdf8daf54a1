"""Reading a ledger while its agent may be writing it; needs no key and takes no lock."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from privacy.errors import LedgerError
from privacy.ledger import database as db
from privacy.ledger.anchors import INHERITED_RUN
from privacy.ledger.attempts import Entry
from privacy.ledger.chain import Chain
from privacy.ledger.files import HeadFile
from privacy.ledger.head import Head
from privacy.ledger.owner import Owner
from privacy.ledger.records import Bound, GeneratorTried


@dataclass(frozen=True)
class LedgerView:
    """A ledger as it was at one moment, fully verified."""

    site: str
    bound: Bound | None
    newest: Head
    attempts: tuple[Entry, ...]
    bindings: tuple[Bound, ...] = ()  # all identities that have signed for it, in order
    tried: tuple[GeneratorTried, float] | None = None  # the newest trial, and when

    def entries(self) -> tuple[Entry, ...]:
        """See `Ledger.entries`."""
        return self.attempts

    def head(self) -> Head:
        """See `Ledger.head`."""
        return self.newest


def read_ledger(
    path: Path, owner: Owner | None = None, *, may_be_unbound: bool = False
) -> LedgerView:
    """The ledger in `path`. Raises `LedgerError` as opening it to write does.

    Without an `owner`, it is known to be whole and signed, but not whose it is. Make `owner` first:
    the ledger may grow between the two, and must not appear to have shrunk.
    """
    kept = HeadFile(head_path(path)).read()  # first: the ledger may grow before it is read
    with closing(db.open_to_read(path)) as database:
        with db.clear_errors(path):
            if db.is_fresh(database, path, may_be_unbound=may_be_unbound):
                raise LedgerError(f"The ledger {path} is empty.", "Start the agent first.")
        chain = db.read_records(database, path)
    check_kept(chain, kept, head_path(path))
    if owner is not None:
        owner.check(chain, path, may_be_unbound=may_be_unbound)
    return LedgerView(
        site=chain.genesis.site,
        bound=chain.bound,
        newest=chain.head,
        attempts=chain.entries,
        bindings=chain.bindings,
        tried=chain.tried,
    )


def record_bytes(path: Path, newest: Head) -> tuple[bytes, ...]:
    """The bytes of all records up to `newest`, which is a head of the ledger in `path`."""
    with closing(db.open_to_read(path)) as database, db.clear_errors(path):
        rows = database.execute(
            "SELECT body FROM entry WHERE sequence <= ? ORDER BY sequence", (newest.sequence,)
        )
        return tuple(bytes(body) for (body,) in rows)


def head_path(path: Path) -> Path:
    """The head file next to the ledger `path`."""
    return path.with_name(path.name + ".head")


def check_kept(chain: Chain, kept: Head | None, path: Path) -> None:
    """Raise `LedgerError` if the head file `path`, with the head `kept`, is gone or contradicts.

    The ledger may be ahead of it: an agent that died between the two writes acknowledged nothing.
    One that died before it began any attempt of its own left no head file at all.
    """
    if kept is not None:
        chain.check_head(kept, origin=f"is kept in {path}")
    elif any(entry.key.run != INHERITED_RUN for entry in chain.entries):
        raise LedgerError(
            f"The file {path} is missing, so nobody can tell whether the ledger's newest records "
            "are still there.",
            "Restore the newest backup of the whole state folder.",
        )

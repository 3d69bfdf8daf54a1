"""The ledger that a site agent writes: signed records in one SQLite file, fsynced one by one."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.errors import LedgerError
from privacy.ledger import database as db
from privacy.ledger.base import AttemptKey, Charge, Entry, Spending, State
from privacy.ledger.chain import Chain
from privacy.ledger.files import HeadFile, take_lock
from privacy.ledger.head import Head, sign
from privacy.ledger.key import public_bytes
from privacy.ledger.records import Charged, Content, Genesis, Intent, hash_of
from privacy.ledger.view import check_kept, head_path

_log = logging.getLogger("craftsfl.ledger")


class SqliteLedger(Spending):
    """`Ledger` of `site` in the file `path`, made if absent; its folder must exist. Thread-safe.

    `key` signs; `clock` gives seconds since 1970; `seen` are heads that others have kept. Opening
    verifies every record. Raises `LedgerError` if the file is no ledger, of another version,
    unreadable, or held by another process; if a record was damaged, changed, cut off, moved or
    comes from elsewhere; if it is another key's or site's; and if a head in `seen` is newer than
    this ledger or no part of it. A clock that goes backwards is only warned of.
    """

    def __init__(
        self,
        path: Path,
        key: Ed25519PrivateKey,
        *,
        site: str,
        clock: Callable[[], float] = time.time,
        seen: Iterable[Head] = (),
    ) -> None:
        self._path, self._key, self._clock = path, key, clock
        self._mutex = threading.Lock()
        self._head_file = HeadFile(head_path(path))
        self._database: sqlite3.Connection | None = None
        self._lock = take_lock(path.with_name(path.name + ".lock"), path)
        with ExitStack() as undo:
            undo.callback(self.close)
            kept = self._head_file.read()
            self._database = db.open_to_write(path, may_be_new=kept is None)
            self._begin(site)
            self._chain = db.read_chain(self._database, path)
            self._check_owner(site)
            self._check_heads(kept, seen)
            self._check_clock()
            self._settled = -1 if kept is None else kept.sequence  # newest head in its file
            self._settle()
            self._place = _place(path)
            undo.pop_all()

    def __enter__(self) -> SqliteLedger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def intent(self, key: AttemptKey, charge: Charge) -> None:
        """See `Ledger.intent`."""
        with self._mutex:
            known = self._open_chain().find(key)
            if known is None:
                self._append(Intent(key, charge))
            elif known.charge != charge:
                raise LedgerError(
                    f"Round {key.round}, attempt {key.attempt} is already recorded with another "
                    "charge.",
                    "The coordinator must use a new attempt number.",
                )
            self._settle()

    def commit(self, key: AttemptKey) -> None:
        """See `Ledger.commit`."""
        with self._mutex:
            known = self._open_chain().find(key)
            if known is None:
                raise LedgerError(
                    f"Round {key.round}, attempt {key.attempt} has no recorded intent.",
                    "Nothing may leave; start the attempt again.",
                )
            if known.state is not State.COMMITTED:
                self._append(Charged(known.sequence))
            self._settle()

    def entries(self) -> tuple[Entry, ...]:
        """See `Ledger.entries`."""
        with self._mutex:
            return self._open_chain().entries

    def head(self) -> Head:
        """See `Ledger.head`."""
        with self._mutex:
            return self._open_chain().head

    def close(self) -> None:
        """See `Ledger.close`."""
        with self._mutex:
            database, self._database = self._database, None
            lock, self._lock = self._lock, -1
            if database is not None:
                database.close()
            if lock >= 0:
                os.close(lock)

    def _begin(self, site: str) -> None:
        """Write the first record if the file is empty."""
        database = self._open()
        with db.clear_errors(self._path):
            if not db.is_fresh(database, self._path):
                return
        chain = Chain(secrets.token_bytes(16))
        body, signature = self._signed(chain, Genesis(public_bytes(self._key), site))
        with db.clear_errors(self._path):
            db.create(database, body, signature)

    def _append(self, content: Content) -> None:
        """Write one record; on disk when this returns. Fails without any change."""
        database, chain = self._open(), self._open_chain()
        before, sequence = chain.time, len(chain)
        body, signature = self._signed(chain, content)
        with db.clear_errors(self._path), db.transaction(database):
            if _place(self._path) != self._place or db.newest(database) != sequence - 1:
                raise LedgerError(
                    f"{self._path} was replaced or changed while the agent used it.",
                    "Stop the agent, find out who did it, and restore the newest state folder.",
                )
            db.insert(database, sequence, body, signature)
        chain.apply(body, signature)
        if chain.time < before:
            _log.warning("The clock went back by %.1f s.", (before - chain.time) / 1e6)

    def _signed(self, chain: Chain, content: Content) -> tuple[bytes, bytes]:
        record = chain.next(content, max(0, round(self._clock() * 1e6)))
        body = record.encode()
        return body, sign(self._key, chain.ledger, record.sequence, hash_of(body))

    def _settle(self) -> None:
        """Bring the head file up to the ledger; what is acknowledged stands in both."""
        head = self._chain.head
        if head.sequence != self._settled:
            self._head_file.write(head)
            self._settled = head.sequence

    def _check_owner(self, site: str) -> None:
        genesis = self._chain.genesis
        if genesis.public_key != public_bytes(self._key):
            raise LedgerError(
                f"The ledger {self._path} was signed with another key than this site's.",
                "Restore ledger and key from one backup of the state folder.",
            )
        if genesis.site != site:
            raise LedgerError(
                f"The ledger {self._path} belongs to the site {genesis.site}, not to {site}.",
                "Point agent.state at this site's folder, or correct `name` in site.toml.",
            )

    def _check_heads(self, kept: Head | None, seen: Iterable[Head]) -> None:
        check_kept(self._chain, kept, self._head_file.path)
        for head in seen:
            self._chain.check_head(head, origin="others saw")

    def _check_clock(self) -> None:
        chain = self._chain
        if chain.steps_back:
            _log.warning(
                "By the clock, %d records of the ledger are older than the one before; sequence "
                "numbers order them.",
                chain.steps_back,
            )
        ahead = chain.time / 1e6 - self._clock()
        if ahead > 0:
            _log.warning("The clock is %.1f s behind the ledger's newest record.", ahead)

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            raise LedgerError("The ledger is closed.", "Open it again.")
        return self._database

    def _open_chain(self) -> Chain:
        self._open()
        return self._chain


def _place(path: Path) -> tuple[int, int] | None:
    """Which file `path` names now; None if none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino

"""The ledger that a site agent writes: signed records in one SQLite file, fsynced one by one."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.closing import Closing
from privacy.errors import LedgerError
from privacy.ledger import database as db
from privacy.ledger.anchors import Anchors
from privacy.ledger.attempts import AttemptKey, Charge, Entry, State, StepMark
from privacy.ledger.binding import bind
from privacy.ledger.chain import Chain
from privacy.ledger.files import HeadFile, take_lock
from privacy.ledger.head import Head, sign_head
from privacy.ledger.key import public_bytes
from privacy.ledger.owner import Owner
from privacy.ledger.records import (
    Bound,
    Charged,
    Content,
    GeneratorTried,
    Intent,
    Sent,
    SessionBegun,
    hash_of,
)
from privacy.ledger.view import check_kept, head_path
from privacy.transaction import transaction

_log = logging.getLogger("craftsfl.ledger")


class SqliteLedger(Closing):
    """`Ledger` of `site` in the file `path`, made if absent; its folder must exist. Thread-safe.

    `key` signs; `clock` returns seconds since 1970; `seen` are heads that others have kept;
    `anchors` tie the ledger to the site's identity, without them it is not bound to anyone. Opening
    verifies every record. Raises `LedgerError` if the file is not a ledger, of another version,
    unreadable, or held by another process; if a record was damaged, changed, cut off, moved or
    comes from elsewhere; if it belongs to another key, site or identity; and if a known head is
    newer than this ledger or not part of it. A clock that goes backwards only causes a warning.
    """

    def __init__(
        self,
        path: Path,
        key: Ed25519PrivateKey,
        *,
        site: str,
        clock: Callable[[], float] = time.time,
        seen: Iterable[Head] = (),
        anchors: Anchors | None = None,
    ) -> None:
        self._anchors = anchors or Anchors()
        self._path, self._key, self._clock = path, key, clock
        self._mutex = threading.Lock()
        self._head_file = HeadFile(head_path(path))
        self._database: sqlite3.Connection | None = None
        self._lock = take_lock(path.with_name(path.name + ".lock"), path)
        with ExitStack() as undo:
            undo.callback(self.close)
            kept = self._head_file.read()
            self._database = db.open_to_write(
                path, may_be_new=kept is None, may_be_unbound=self._anchors.rebind
            )
            self._begin(site)
            self._chain = db.read_records(self._database, path)
            self._check_owner(site)
            self._check_heads(kept, seen)
            self._check_clock()
            with db.clear_errors(path):
                db.bring_up_to_date(self._database)
            self._settled = -1 if kept is None else kept.sequence  # newest head in its file
            self._place = _place(path)
            self._rebind(site)
            self._settle()
            undo.pop_all()

    def intent(self, key: AttemptKey, charge: Charge, mark: StepMark | None = None) -> None:
        """See `Ledger.intent`."""
        with self._mutex:
            known = self._open_chain().find(key)
            if known is None:
                self._append(Intent(key, charge, mark))
            elif (known.charge, known.mark) != (charge, mark):
                raise LedgerError(
                    f"Round {key.round}, attempt {key.attempt} is already recorded with another "
                    f"{'charge' if known.charge != charge else 'label or cohort'}.",
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

    def sent(self, key: AttemptKey, digest: bytes) -> None:
        """See `Ledger.sent`."""
        with self._mutex:
            known = self._open_chain().find(key)
            if (
                known is None
                or known.state is not State.COMMITTED
                or known.sent not in (b"", digest)
            ):
                raise LedgerError(
                    f"Round {key.round}, attempt {key.attempt} is not charged, or something else "
                    "of it has left.",
                    "Nothing may leave; start a new attempt.",
                )
            if not known.sent:
                self._append(Sent(known.sequence, digest))
            self._settle()

    def generator_tried(self, found: GeneratorTried) -> None:
        """Record what the generator's trial at this start has found; on disk when this returns."""
        with self._mutex:
            self._append(found)
            self._settle()

    def begin_session(self, study: bytes, run: int, number: int, digest: bytes) -> None:
        """See `Ledger.begin_session`."""
        with self._mutex:
            content, newest = SessionBegun(study, run, number, digest), self._newest(study)
            if self._open_chain().session(study) != content:
                if number <= newest:
                    raise LedgerError(
                        f"Session {number} is not above session {newest}, the newest here.",
                        "The coordinator must begin a session with a larger number.",
                    )
                self._append(content)
            self._settle()

    def newest_session(self, study: bytes) -> int:
        """See `Ledger.newest_session`."""
        with self._mutex:
            return self._newest(study)

    def entries(self) -> tuple[Entry, ...]:
        """See `Ledger.entries`."""
        with self._mutex:
            return self._open_chain().entries

    def head(self) -> Head:
        """See `Ledger.head`."""
        with self._mutex:
            return self._open_chain().head

    def chain(self) -> Chain:
        """What the records make; not to be changed, and only between two appends."""
        with self._mutex:
            return self._open_chain()

    def records(self, first: int, until: int) -> Sequence[bytes]:
        """The bytes of the records from `first` on, to before `until`."""
        with self._mutex, db.clear_errors(self._path):
            return db.bodies(self._open(), first, until)

    @property
    def bound(self) -> Bound | None:
        """The newest binding to an identity; None for a ledger without one."""
        with self._mutex:
            return self._open_chain().bound

    def close(self) -> None:
        """See `Ledger.close`."""
        with self._mutex:
            database, self._database = self._database, None
            lock, self._lock = self._lock, -1
            if database is not None:
                database.close()
            if lock >= 0:
                os.close(lock)
                self._anchors.release()

    def _newest(self, study: bytes) -> int:
        session = self._open_chain().session(study)
        return 0 if session is None else session.number

    def _begin(self, site: str) -> None:
        """Write the first record if the file is empty."""
        database, anchors = self._open(), self._anchors
        with db.clear_errors(self._path):
            if not db.is_fresh(database, self._path, may_be_unbound=anchors.rebind):
                return
        chain = Chain(secrets.token_bytes(16))
        records = []
        for content in anchors.first_records(chain.ledger, public_bytes(self._key), site):
            records.append(self._signed(chain, content))
            chain.apply(*records[-1])
        with db.clear_errors(self._path):
            db.create(database, records)

    def _rebind(self, site: str) -> None:
        """Bind the ledger to the identity if requested and not done yet."""
        identity, chain = self._anchors.identity, self._chain
        if not self._anchors.rebind or identity is None:
            return
        if chain.bound is None or chain.bound.identity != identity.public:
            key = public_bytes(self._key)
            self._append(bind(identity, chain.ledger, key, site), db.mark_bound)

    def _append(
        self, content: Content, also: Callable[[sqlite3.Connection], None] | None = None
    ) -> None:
        """Write one record, and in the same transaction what `also` does; on disk on return.

        Fails without any change.
        """
        database, chain = self._open(), self._open_chain()
        before, sequence = chain.time, len(chain)
        body, signature = self._signed(chain, content)
        with db.clear_errors(self._path), transaction(database):
            if _place(self._path) != self._place or db.newest(database) != sequence - 1:
                raise LedgerError(
                    f"{self._path} was replaced or changed while the agent used it.",
                    "Stop the agent, find out who did it, and restore the newest state folder.",
                )
            db.insert(database, sequence, body, signature)
            if also is not None:
                also(database)
        chain.apply(body, signature)
        if chain.time < before:
            _log.warning("The clock went back by %.1f s.", (before - chain.time) / 1e6)

    def _signed(self, chain: Chain, content: Content) -> tuple[bytes, bytes]:
        record = chain.next(content, max(0, round(self._clock() * 1e6)))
        body = record.encode()
        return body, sign_head(self._key, chain.ledger, record.sequence, hash_of(body))

    def _settle(self) -> None:
        """Bring head file and marks up to date; what is acknowledged is recorded in all of them."""
        head = self._chain.head
        if head.sequence != self._settled:
            for file in (self._head_file, *self._anchors.marks):
                file.write(head)
            self._settled = head.sequence

    def _check_owner(self, site: str) -> None:
        anchors = self._anchors
        identity = None if anchors.identity is None else anchors.identity.public
        owner = Owner(site, public_bytes(self._key), identity, anchors.seen)
        owner.check(self._chain, self._path, may_be_unbound=anchors.rebind)

    def _check_heads(self, kept: Head | None, seen: Iterable[Head]) -> None:
        check_kept(self._chain, kept, self._head_file.path)
        for head in seen:
            self._chain.check_head(head, origin="others saw")

    def _check_clock(self) -> None:
        chain = self._chain
        if chain.steps_back:
            _log.warning(
                "By the clock, %d records of the ledger are older than the previous one; sequence "
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
    """Which file `path` refers to now; None if there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino

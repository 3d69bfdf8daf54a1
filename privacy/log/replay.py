"""What the log says, entry after entry: the same fold for the coordinator and for an auditor.

The coordinator takes an entry here before it is on disk, so that its log never holds what an
auditor would refuse. Guarantees, each with a test: an entry that is refused changes nothing; a
roster is signed by its predecessor's members; a study names this log's key, and a roster that the
log holds; records follow those before, of a ledger of a member; an identity has one ledger, until
another one names the lost one; a table of heads is the one that the records make.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, TypeAlias

from privacy.error_ids import ErrorId
from privacy.errors import CraftsflError, LogError
from privacy.log.batches import RecordBatch
from privacy.log.checkpoints import log_origin
from privacy.log.entries import EntryKind, LogEntry, LogFacts, facts_of
from privacy.log.heads import HeadsTable
from privacy.log.lines import LedgerLine, check_identities
from privacy.secagg.roster import Roster, SignedRoster, verify_roster
from privacy.wire.checkpoint import Checkpoint

_STUDY_TAG: Final = b"craftsfl/study/v1\0"
_About: TypeAlias = tuple[EntryKind, str, int]  # kind, study (digest, hex), run
_OF_FACTS: Final = frozenset(EntryKind) - {
    *(EntryKind.STUDY, EntryKind.ROSTER, EntryKind.RECORDS, EntryKind.HEADS)
}


@dataclass
class LogReplay:
    """The log that the holder of the key `coordinator` (32 bytes) keeps. Not thread-safe."""

    coordinator: bytes
    size: int = 0
    rosters: list[SignedRoster] = field(default_factory=list)
    studies: dict[bytes, LogFacts] = field(default_factory=dict)  # by their digest
    lines: dict[bytes, LedgerLine] = field(default_factory=dict)  # by the ledger's id
    facts: list[tuple[EntryKind, LogFacts]] = field(default_factory=list)  # kinds 5 to 11, in order
    heads: HeadsTable = field(default_factory=HeadsTable)  # of the newest of these entries
    steps_back: int = 0  # how often an entry has an earlier time than the one before it
    _current: dict[bytes, bytes] = field(default_factory=dict)  # ledger by identity
    _time: int = 0  # of the newest entry
    _grown: dict[bytes, list[tuple[int, int]]] = field(default_factory=dict)  # entries, records
    _owned: dict[bytes, int] = field(default_factory=dict)  # bindings that were checked, by ledger
    _about: dict[_About, list[LogFacts]] = field(default_factory=dict, init=False)
    _sorted: int = field(default=0, init=False)  # so many of `facts` are in `_about`

    @property
    def consortium(self) -> Roster:
        """The newest roster. Raises `LogError` if there is none yet."""
        if not self.rosters:
            raise LogError("The log does not begin with a roster.")
        return self.rosters[-1].roster

    @property
    def origin(self) -> str:
        """The log's name."""
        return log_origin(self.consortium.consortium, self.coordinator)

    def take(self, data: bytes) -> LogEntry:
        """Add an entry; `LogError`, and no change, if it does not follow from those before."""
        try:
            entry = LogEntry.decode(data)
            self._take(entry)
        except CraftsflError as error:
            raise LogError(
                f"Entry {self.size} of the log does not hold. {error.message}",
                error.hint,
                id=error.id,
            ) from error
        self.size += 1
        self.steps_back += entry.time < self._time
        self._time = entry.time
        return entry

    def table(self) -> HeadsTable:
        """How far every ledger is: what the next table of heads has to say."""
        rows = {}
        for identity, ledger in self._current.items():
            head = self.lines[ledger].head
            if head is not None:
                rows[identity] = head.checkpoint
        return HeadsTable(rows)

    def line_of(self, identity: bytes) -> LedgerLine | None:
        """The ledger that is bound to this identity now; None before it is in the log."""
        ledger = self._current.get(identity)
        return None if ledger is None else self.lines[ledger]

    def row(self, identity: bytes) -> Checkpoint | None:
        """How far the log has the ledger of this identity."""
        line = self.line_of(identity)
        return None if line is None or line.head is None else line.head.checkpoint

    def records_at(self, ledger: bytes, size: int) -> int:
        """How many records of this ledger the first `size` entries have."""
        grown = self._grown.get(ledger, [])
        place = bisect_right(grown, size, key=itemgetter(0))
        return grown[place - 1][1] if place else 0

    def facts_about(self, kind: EntryKind, study: str, run: int) -> list[LogFacts]:
        """What the entries of a kind say of a run of the study (its digest, hex), in order."""
        for found, said in self.facts[self._sorted :]:
            of, number = said.get("study"), said.get("run")
            if isinstance(of, str) and type(number) is int:
                self._about.setdefault((found, of, number), []).append(said)
        self._sorted = len(self.facts)
        return self._about.get((kind, study, run), [])

    def _take(self, entry: LogEntry) -> None:
        match entry.kind:
            case EntryKind.STUDY:
                self._study(entry.body)
            case EntryKind.ROSTER:
                self._roster(SignedRoster.decode(entry.body))
            case EntryKind.RECORDS:
                self._records(RecordBatch.decode(entry.body))
            case EntryKind.HEADS:
                self._heads(HeadsTable.decode(entry.body))
            case kind if kind in _OF_FACTS:
                self.facts.append((kind, facts_of(entry.body)))

    def _study(self, body: bytes) -> None:
        found = facts_of(body)
        pooled, masked = found.get("pooled"), found.get("secure_aggregation")
        if not isinstance(pooled, dict) or not isinstance(masked, dict):
            raise LogError("A study in the log is not a pooled one.")
        if pooled.get("coordinator_key") != self.coordinator.hex():
            raise LogError("A study in the log names another coordinator's key.")
        if str(masked.get("roster")) not in {one.roster.digest().hex() for one in self.rosters}:
            raise LogError("A study in the log names a roster that the log does not hold.")
        self.studies[hashlib.sha256(_STUDY_TAG + body).digest()] = found

    def _roster(self, signed: SignedRoster) -> None:
        before = self.rosters[-1].roster if self.rosters else None
        verify_roster(signed, before)
        self.rosters.append(signed)

    def _records(self, batch: RecordBatch) -> None:
        ledger = batch.head.ledger
        line = self.lines.get(ledger)
        if line is None:
            line = LedgerLine(ledger)
        line.take(batch, self._check_owner)
        self.lines[ledger] = line
        self._grown.setdefault(ledger, []).append((self.size + 1, len(line)))
        if line.identity is not None and self._current.get(line.identity) != ledger:
            others = {key: held for key, held in self._current.items() if held != ledger}
            self._current = {**others, line.identity: ledger}

    def _check_owner(self, line: LedgerLine) -> None:
        """Whose ledger it is, once it says so."""
        if line.identity is None:
            return
        if len(line.bindings) > self._owned.get(line.ledger, 0):  # rosters only grow
            check_identities(line.site, line.bindings, [one.roster for one in self.rosters])
        held = self._current.get(line.identity)
        if held is not None and held not in (line.ledger, line.bindings[0].replaced.ledger):
            raise LogError(
                f"The identity of {line.site} has the ledger {held.hex()[:8]} in the log, and "
                f"shows another one, {line.ledger.hex()[:8]}, that does not replace it.",
                "Two state folders are in use, or one was begun afresh. Restore the ledger; only "
                "if it is lost: craftsfl site recover-ledger site.toml",
                id=ErrorId.LEDGER_FOREIGN,
            )
        self._owned[line.ledger] = len(line.bindings)

    def _heads(self, table: HeadsTable) -> None:
        if table != self.table():
            raise LogError("A table of heads is not what the records before it make.")
        self.heads = table

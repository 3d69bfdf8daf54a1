"""The consortium's log at its coordinator: what goes in, and what is said of it.

An entry is taken by the same replay as an auditor's before it is on disk, so what a site sends that
does not follow is refused by name and never gets in. All that is said of the log is on disk before.
"""

# Why: docs/adr/0059-a-log-that-every-site-witnesses.md

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from privacy.errors import LogError
from privacy.identity import Identity
from privacy.log.batches import RecordBatch
from privacy.log.checkpoints import Cosignature, TreeHead, signed_checkpoint
from privacy.log.entries import EntryKind, LogEntry, LogFacts, facts
from privacy.log.news import LogProofs, news_fields
from privacy.log.notes import SignedNote
from privacy.log.replay import LogReplay
from privacy.log.store import LogStore
from privacy.secagg.roster import Member, Roster, SignedRoster
from privacy.study.manifest import Study
from privacy.wire.log import LogFields

_MICROSECONDS = 1_000_000


class LogKeeper:
    """The log in `store`, which the holder of `identity` signs. One at a time; not thread-safe."""

    def __init__(
        self,
        store: LogStore,
        identity: Identity,
        rosters: Callable[[], Sequence[SignedRoster]],
        study: Study,
        clock: Callable[[], float],
        waiting: Callable[[], Iterable[tuple[EntryKind, LogFacts]]] = tuple,
    ) -> None:
        """`rosters`: the consortium's, from its first, once the newest has its signatures;
        `waiting`: facts that others leave for the log, as often as they are asked for.

        Raises `LogError` for a log that is damaged.
        """
        self._store, self._identity, self._clock = store, identity, clock
        self._replay = LogReplay(identity.public)
        for data in store.entries():
            self._replay.take(data)
        self._head = self._newest()
        self._cosigned = store.cosigned_last()
        self._rosters, self._study, self._waiting = rosters, study, waiting

    @property
    def roster(self) -> Roster:
        """The newest roster in the log. Raises `LogError` before `begin`."""
        return self._replay.consortium

    @property
    def members(self) -> tuple[Member, ...]:
        """Those of the newest roster; nobody before `begin`."""
        return self.roster.members if self._replay.rosters else ()

    @property
    def replay(self) -> LogReplay:
        """What the log says; not to be changed."""
        return self._replay

    def since(self, ledger: bytes) -> int:
        """How many records of this ledger (its id) the log holds."""
        line = self._replay.lines.get(ledger)
        return 0 if line is None else len(line)

    def cosigned(self, member: Member) -> int:
        """The size that this site has cosigned last, 0 for none."""
        return self._cosigned.get(member.public_key, 0)

    def write(self, kind: EntryKind, values: LogFacts) -> None:
        """Add facts that stand in the log once, however often they are told."""
        if (kind, values) not in self._replay.facts:
            self._append([(kind, facts(values))])

    def take_waiting(self) -> None:
        """Add the facts that others have left, once `begin` was called."""
        for kind, values in self._waiting():
            self.write(kind, values)

    def has_waiting(self) -> bool:
        """Whether others have left facts that are not in the log."""
        return any(one not in self._replay.facts for one in self._waiting())

    def take_records(self, batches: Iterable[tuple[Member, bytes]]) -> dict[str, str]:
        """Add what sites have sent, each a `RecordBatch`; by name, why the others are not in.

        What the log holds already is left out.
        """
        refused, taken = {}, []
        for member, data in batches:
            try:
                if not self._holds(RecordBatch.decode(data)):
                    taken.append(self._taken(EntryKind.RECORDS, data))
            except LogError as error:
                refused[member.name] = error.message
        self._write(taken)
        return refused

    def take_cosignatures(
        self, head: TreeHead, given: Iterable[tuple[Member, bytes]]
    ) -> frozenset[str]:
        """Keep cosignatures of `head`, which the log has signed; the names of whose are good."""
        good = {
            member: cosignature
            for member, data in given
            if (cosignature := _cosignature(data)) is not None
            and cosignature.is_of(head, member.public_key)
        }
        found = [(member.public_key, cosignature) for member, cosignature in good.items()]
        self._store.keep_cosignatures(head.size, found)
        for member in good:
            self._cosigned[member.public_key] = max(head.size, self.cosigned(member))
        return frozenset(member.name for member in good)

    def says(self, member: Member, size: int, root: bytes) -> bool:
        """Take a site's word for what it has cosigned last; whether that is of this log at all."""
        if size > self._store.size or (size and self._store.root(size) != root):
            return False
        self._cosigned[member.public_key] = size
        return True

    def checkpoint(self) -> TreeHead:
        """The log as it is now, its last entry a table of heads, signed and on disk."""
        if self._head is None or self._head.size != self._replay.size:
            self._append([(EntryKind.HEADS, self._replay.table().encode())])
            size = self._store.size
            self._head = TreeHead(self._replay.origin, size, self._store.root(size))
            self._store.keep(self._head, signed_checkpoint(self._head, self._identity))
        return self._head

    def news(self, old: int) -> LogFields:
        """What is said of the log as it is now to sites that have cosigned its first `old`.

        With `old` = 0, to sites of which nobody knows what they have cosigned.
        """
        head = self.checkpoint()
        note = self._store.checkpoint(head.size)
        (entry,) = self._store.entries(head.size - 1, head.size)
        proofs = LogProofs(
            old=old,
            consistency=self._store.consistency(old, head.size) if old else (),
            inclusion=self._store.inclusion(head.size - 1, head.size),
            cosignatures=self._cosignatures(old),
        )
        return news_fields(entry, note or SignedNote(head.text, ()), proofs)

    def common(self, members: Iterable[Member]) -> int:
        """The size that all of these have cosigned last; 0 where they have not the same."""
        sizes = {self.cosigned(member) for member in members}
        return sizes.pop() if len(sizes) == 1 else 0

    def _cosignatures(self, size: int) -> dict[int, Cosignature]:
        by_key = self._store.cosignatures(size)
        members = ((member.site, by_key.get(member.public_key)) for member in self.roster.members)
        return {site: found for site, found in members if found is not None}

    def begin(self) -> None:
        """Make sure that the rosters and the study are in the log.

        Raises `LogError` where it is of another consortium.
        """
        rosters, study = self._rosters(), self._study
        held = [one.roster.digest() for one in self._replay.rosters]
        given = [one.roster.digest() for one in rosters]
        common = min(len(held), len(given))
        if held[:common] != given[:common]:
            raise LogError(
                "The log in the coordinator's state folder is of another consortium.",
                "Use one state folder, and one coordinator's key, for each consortium.",
            )
        new = [(EntryKind.ROSTER, one.encode()) for one in rosters[len(held) :]]
        self._append(new)
        if study.digest() not in self._replay.studies:
            self._append([(EntryKind.STUDY, study.canonical())])

    def _holds(self, batch: RecordBatch) -> bool:
        """Whether the log has all of `batch`, to the byte: an answer that came twice."""
        line = self._replay.lines.get(batch.head.ledger)
        return line is not None and line.head == batch.head

    def _append(self, bodies: Iterable[tuple[EntryKind, bytes]]) -> None:
        self._write([self._taken(kind, body) for kind, body in bodies])

    def _taken(self, kind: EntryKind, body: bytes) -> bytes:
        data = LogEntry(kind, round(self._clock() * _MICROSECONDS), body).encode()
        self._replay.take(data)
        return data

    def _write(self, entries: Sequence[bytes]) -> None:
        if entries:
            self._store.append(entries)

    def _newest(self) -> TreeHead | None:
        note = self._store.checkpoint()
        return None if note is None else TreeHead.of_text(note.text)


def _cosignature(data: bytes) -> Cosignature | None:
    try:
        return Cosignature.decode(data)
    except LogError:
        return None

"""What the coordinator says of the log with a step, and what a site makes of it. Pure.

    head         the newest entry, which is the table of all ledgers' heads (`privacy.log.heads`)
    checkpoint   the log with that entry in it, as a signed note
    cosignature  old u64 | consistency, hashes | inclusion, hashes | cosigned u16, for each site
                 id u16 | cosignature 72

    hashes: count u8 | 32 each

`consistency` leads from the checkpoint of `old` entries, the one that all sites of the step have
cosigned last, to this one; `inclusion` proves that the table is its last entry. The cosignatures
are of the older one: whoever has cosigned it has seen that it continues what it cosigned before.
"""

# Why: docs/adr/0059-a-log-that-every-site-witnesses.md

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from privacy.errors import LogError
from privacy.ledger.chain import Chain
from privacy.log.checkpoints import COSIGNATURE_BYTES, Cosignature, TreeHead, open_checkpoint
from privacy.log.entries import EntryKind, LogEntry
from privacy.log.heads import HeadsTable
from privacy.log.merkle import HASH_BYTES, check_consistency, check_inclusion, leaf_hash
from privacy.log.notes import SignedNote
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.secagg.witness import contradiction
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.codec import Reader, Writer
from privacy.wire.log import LogFields
from privacy.wire.reasons import RefusedMessage
from privacy.wire.sites import check_ids


@dataclass(frozen=True, slots=True)
class LogProofs:
    """The field `cosignature` of a step."""

    old: int
    consistency: tuple[bytes, ...]
    inclusion: tuple[bytes, ...]
    cosignatures: Mapping[int, Cosignature]

    def encode(self) -> bytes:
        """The field's bytes."""
        writer = Writer().u64(self.old)
        for proof in (self.consistency, self.inclusion):
            writer.u8(len(proof))
            for one in proof:
                writer.fixed(one, HASH_BYTES)
        writer.u16(len(self.cosignatures))
        for site in sorted(self.cosignatures):
            writer.u16(site).fixed(self.cosignatures[site].encode(), COSIGNATURE_BYTES)
        return writer.done()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`; `LogError` for anything else."""
        reader = Reader(data)
        try:
            old = reader.u64()
            consistency, inclusion = _hashes(reader), _hashes(reader)
            pairs = [
                (reader.u16(), Cosignature.decode(reader.fixed(COSIGNATURE_BYTES)))
                for _ in range(reader.u16())
            ]
            reader.end()
            check_ids([site for site, _ in pairs])
        except RefusedMessage as error:
            raise LogError(f"The proofs of the log cannot be read. {error.message}") from None
        return cls(old, consistency, inclusion, dict(pairs))


@dataclass(frozen=True, slots=True)
class LogNews:
    """The log as a site is shown it: who has signed it, and how far each ledger is in it."""

    head: TreeHead
    table: HeadsTable
    proofs: LogProofs


def news_fields(entry: bytes, note: SignedNote, proofs: LogProofs) -> LogFields:
    """What the coordinator sends: its newest entry, a table of heads, and what proves it."""
    return LogFields(entry, note.encode(), proofs.encode())


def read_news(log: LogFields, origin: str, coordinator: bytes) -> LogNews:
    """What the log of `origin` says of itself; `Refused` unless it has signed that."""
    try:
        head = open_checkpoint(SignedNote.decode(log.checkpoint), origin, coordinator)
        proofs = LogProofs.decode(log.cosignature)
        leaf = leaf_hash(log.head)
        check_inclusion(leaf, head.size - 1, head.size, proofs.inclusion, head.root)
        entry = LogEntry.decode(log.head)
        if entry.kind is not EntryKind.HEADS:
            raise LogError("The newest entry of the log is not a table of heads.")
        return LogNews(head, HeadsTable.decode(entry.body), proofs)
    except LogError as error:
        raise Refused(Check.LOG_WRONG) from error


def check_continues(news: LogNews, last: TreeHead | None) -> None:
    """Raise `Refused` unless the log continues the one that this site has cosigned last."""
    if last is None:
        return
    head, proofs = news.head, news.proofs
    if head.size < last.size:
        raise Refused(Check.LOG_OLDER)
    if head.size == last.size:
        if head.root != last.root:
            raise Refused(Check.LOG_FORKED)
        return
    if proofs.old != last.size:
        raise Refused(Check.LOG_BEHIND)
    try:
        check_consistency(last.size, last.root, head.size, head.root, proofs.consistency)
    except LogError as error:
        raise Refused(Check.LOG_FORKED) from error


def check_own_row(row: Checkpoint | None, chain: Chain, site: int) -> int:
    """How many records of this site's ledger are in the log, 0 for none.

    Raises `Refused` where the log knows more of it, or something else: what a state folder that was
    put back, or is one of two, cannot know by itself.
    """
    if row is None:
        return 0
    if row.ledger != chain.ledger:
        raise Refused(Check.LOG_OWN_OTHER, site)
    if row.length > len(chain):
        raise Refused(Check.LOG_OWN_OLDER, site)
    if row.length and chain.head_at(row.length - 1).hash != row.hash:
        raise Refused(Check.LOG_OWN_OTHER, site)
    return row.length


def newer_rows(
    table: HeadsTable,
    last: HeadsTable,
    known: Mapping[bytes, Checkpoint],
    own: bytes,
    roster: Roster,
) -> dict[bytes, Checkpoint]:
    """What a witness learns of the others' ledgers; `own` is its identity's public key.

    `last` is the table that it has cosigned last: no row of it goes back or is gone. `known` is
    what it has heard of the others from anybody: a ledger that replaces another one has to be
    accepted there by a person first. What it knows better than the log, the log may still learn.
    Raises `Refused` with the site whose row is wrong.
    """
    before = {row.ledger: row for row in last.rows.values()}
    still = {row.ledger for row in table.rows.values()}
    for key in sorted(last.rows.keys() - table.rows.keys() - {own}):
        if last.rows[key].ledger not in still:  # else its identity has another key now
            raise Refused(Check.OLDER_LEDGER, roster.site_of(key) or 0)
    newer = {}
    for key, row in table.rows.items():
        if key == own or last.rows.get(key) == row:
            continue
        check = _wrong_row(row, last.rows.get(key) or before.get(row.ledger), known.get(key))
        if check is not None:
            raise Refused(check, roster.site_of(key) or 0)
        held = known.get(key)
        if held is None or held.length < row.length:
            newer[key] = row
    return newer


def _wrong_row(
    row: Checkpoint, before: Checkpoint | None, known: Checkpoint | None
) -> Check | None:
    if before is not None and before.ledger != row.ledger and known is None:
        return Check.OTHER_LEDGER
    if before is not None and before.ledger == row.ledger:
        check = contradiction(before, row)
        if check is not None:
            return check
    check = contradiction(known, row)
    return None if check is Check.OLDER_LEDGER else check


def _hashes(reader: Reader) -> tuple[bytes, ...]:
    return tuple(reader.fixed(HASH_BYTES) for _ in range(reader.u8()))

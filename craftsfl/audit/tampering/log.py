"""What can be done to the log: leave entries out, go back to an older one, show two of them."""

from __future__ import annotations

from dataclasses import replace

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.files import flipped
from craftsfl.audit.tampering.kinds import NotHere, keys_of, kind
from craftsfl.audit.tampering.steps import REQUESTS_FILE
from privacy.audit.checks.log import CHECKPOINT_FILE, COSIGNED_FILE, ENTRIES_FILE
from privacy.audit.faults import Flaw
from privacy.audit.packs import packed_rows, unpacked_rows
from privacy.log.checkpoints import TreeHead, signed_checkpoint
from privacy.log.entries import EntryKind, LogEntry, facts, facts_of
from privacy.log.merkle import leaf_hash, root_over
from privacy.log.notes import SignedNote
from privacy.secagg.sealed.opening import signed_step
from privacy.wire.sealed import SealedStep

# An entry that is gone is missed by what follows it, or by the root of all.
_BROKEN = (Flaw.LOG_ENTRY, Flaw.LOG_CHECKPOINT)


@kind("log-entry-dropped", *_BROKEN)
def _dropped(draft: Draft) -> str:
    entries = log_entries(draft)
    at = draft.random.randrange(len(entries))
    _put(draft, entries[:at] + entries[at + 1 :])
    return f"Entry {at} of the log was left out."


@kind("log-entries-reordered", *_BROKEN)
def _reordered(draft: Draft) -> str:
    entries = log_entries(draft)
    one, other = draft.random.sample(range(len(entries)), 2)
    entries[one], entries[other] = entries[other], entries[one]
    _put(draft, entries)
    return f"Entries {one} and {other} of the log changed places."


@kind("log-entry-repeated", *_BROKEN)
def _repeated(draft: Draft) -> str:
    entries = log_entries(draft)
    at = draft.random.randrange(len(entries))
    _put(draft, entries[: at + 1] + entries[at:])
    return f"Entry {at} of the log is there twice."


@kind("log-entry-changed", *_BROKEN)
def _changed(draft: Draft) -> str:
    entries = log_entries(draft)
    at = draft.random.randrange(len(entries))
    entries[at] = flipped(draft, entries[at])
    _put(draft, entries)
    return f"One bit of entry {at} of the log was flipped."


@kind("log-left-out", Flaw.LOG_CHECKPOINT)
def _left_out(draft: Draft) -> str:
    log_entries(draft)
    for name in (ENTRIES_FILE, CHECKPOINT_FILE, COSIGNED_FILE):
        del draft.files[name]
    return "The log was left out."


@kind("cosignatures-missing", Flaw.LOG_COSIGNATURES)
def _missing(draft: Draft) -> str:
    note = _note(draft, COSIGNED_FILE)
    draft.files[COSIGNED_FILE] = SignedNote(note.text, note.lines[:1]).encode()
    return "The sites' cosignatures were taken off the checkpoint."


@kind("cosignature-forged", Flaw.LOG_COSIGNATURES)
def _forged(draft: Draft) -> str:
    note = _note(draft, COSIGNED_FILE)
    if len(note.lines) < 2:
        raise NotHere("Nobody has cosigned.")
    at = draft.random.randrange(1, len(note.lines))
    line = note.lines[at]
    other = replace(line, signature=flipped(draft, line.signature))
    lines = (*note.lines[:at], other, *note.lines[at + 1 :])
    draft.files[COSIGNED_FILE] = SignedNote(note.text, lines).encode()
    return "A cosignature was forged."


@kind("checkpoint-forged", Flaw.LOG_CHECKPOINT)
def _checkpoint_forged(draft: Draft) -> str:
    note = _note(draft)
    line = replace(note.lines[0], signature=flipped(draft, note.lines[0].signature))
    draft.files[CHECKPOINT_FILE] = SignedNote(note.text, (line, *note.lines[1:])).encode()
    return "The coordinator's signature of the checkpoint was forged."


@kind(
    "older-checkpoint",
    *(
        Flaw.LOG_COSIGNATURES,
        Flaw.LOG_LEDGER,
        Flaw.LOG_RECORD,
        Flaw.LOG_CHECKPOINT,
        Flaw.PROMOTION,  # where nothing but a promotion was cut off
    ),
    needs_keys=True,
)
def _older(draft: Draft) -> str:
    """The coordinator cuts the log off, and signs what is left."""
    entries = log_entries(draft)
    size = draft.random.randrange(1, len(entries))
    while size and LogEntry.decode(entries[size - 1]).kind is not EntryKind.HEADS:
        size -= 1
    if not size:
        raise NotHere("There is no older checkpoint.")
    resign_log(draft, entries[:size])
    return f"The coordinator goes back to a log of {size} entries."


@kind("forked-log", Flaw.LOG_RECORD, needs_keys=True)
def _forked(draft: Draft) -> str:
    """The coordinator writes another sum into the log of a step, and signs that."""
    entries = log_entries(draft)
    places = [at for at, one in enumerate(entries) if LogEntry.decode(one).kind is EntryKind.STEP]
    if not places:
        raise NotHere("No step is in the log.")
    at = draft.random.choice(places)
    entry = LogEntry.decode(entries[at])
    said = {**facts_of(entry.body), "opened": draft.random.randbytes(32).hex()}
    entries[at] = replace(entry, body=facts(said)).encode()
    resign_log(draft, entries)
    return "The coordinator put another sum into the log, and signed that."


@kind("split-view", Flaw.LOG_CHECKPOINT, needs_keys=True)
def _split(draft: Draft) -> str:
    """A step's sites were shown another log than the one that is in the bundle."""
    rows = draft.rows(REQUESTS_FILE)
    places = [at for at, row in enumerate(rows) if SealedStep.decode(row).log.checkpoint]
    if not places:
        raise NotHere("No step was under a log.")
    at = draft.random.choice(places)
    request = SealedStep.decode(rows[at])
    head = TreeHead.of_text(SignedNote.decode(request.log.checkpoint).text)
    other = replace(head, root=draft.random.randbytes(32))
    note = signed_checkpoint(other, keys_of(draft).coordinator).encode()
    shown = replace(request, checkpoint=note)
    rows[at] = signed_step(keys_of(draft).coordinator, shown).encode()
    draft.put_rows(REQUESTS_FILE, rows)
    return f"At step {request.step} the sites were shown another log."


def log_entries(draft: Draft) -> list[bytes]:
    """The log's entries; `NotHere` where there is no log."""
    if ENTRIES_FILE not in draft.files:
        raise NotHere("There is no log.")
    return unpacked_rows(draft.files[ENTRIES_FILE])


def _put(draft: Draft, entries: list[bytes]) -> None:
    draft.files[ENTRIES_FILE] = packed_rows(entries)


def _note(draft: Draft, name: str = CHECKPOINT_FILE) -> SignedNote:
    if name not in draft.files:
        raise NotHere("There is no log.")
    return SignedNote.decode(draft.files[name])


def resign_log(draft: Draft, entries: list[bytes]) -> None:
    """A checkpoint of these entries by the coordinator; nobody has cosigned it."""
    origin = TreeHead.of_text(_note(draft).text).origin
    head = TreeHead(origin, len(entries), root_over(map(leaf_hash, entries)))
    _put(draft, entries)
    draft.files[CHECKPOINT_FILE] = signed_checkpoint(head, keys_of(draft).coordinator).encode()

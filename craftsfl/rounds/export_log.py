"""The log's part of a bundle: all of it, and the newest checkpoint that has its quorum."""

from __future__ import annotations

from pathlib import Path

from privacy.audit.checks.log import (
    CHECKPOINT_FILE,
    COSIGNED_FILE,
    ENTRIES_FILE,
)
from privacy.audit.checks.witnesses import log_quorum
from privacy.audit.packs import packed_rows
from privacy.errors import LogError
from privacy.identity import Identity
from privacy.log.checkpoints import TreeHead, log_origin, signed_checkpoint, witness_line
from privacy.log.notes import SignedNote
from privacy.log.store import LogStore
from privacy.secagg.roster import Roster
from privacy.study.manifest import Study


def log_files(path: Path, study: Study, roster: Roster, key: Identity | None) -> dict[str, bytes]:
    """The files, by name, of the log in the database `path`; none where there is no such file.

    All of it, under a checkpoint that the coordinator's `key` signs, and the newest checkpoint with
    a quorum. Raises `LogError` where none has one: nobody vouches for anything yet.
    """
    if study.pooled is None or key is None or not path.exists():
        return {}
    with LogStore(path) as store:
        head = TreeHead(
            log_origin(roster.consortium, key.public), store.size, store.root(store.size)
        )
        return {
            ENTRIES_FILE: packed_rows(store.entries()),
            CHECKPOINT_FILE: signed_checkpoint(head, key).encode(),
            COSIGNED_FILE: _cosigned(store, roster, log_quorum(study)).encode(),
        }


def _cosigned(store: LogStore, roster: Roster, wanted: int) -> SignedNote:
    """The newest checkpoint that so many members have cosigned, with what they signed."""
    for size in store.cosigned_sizes():
        note, found = store.checkpoint(size), store.cosignatures(size)
        members = [one for one in roster.members if one.public_key in found]
        if note is not None and len(members) >= wanted:
            lines = (witness_line(roster.consortium, one, found[one.public_key]) for one in members)
            return note.with_lines(*lines)
    raise LogError(
        f"No checkpoint of the log was cosigned by {wanted} sites.",
        "Run one more step, or wait until the sites have answered.",
    )

"""The log's part of a bundle: all entries up to the newest checkpoint that has its quorum."""

from __future__ import annotations

from pathlib import Path

from privacy.audit.checks.log import CHECKPOINT_FILE, ENTRIES_FILE, log_quorum
from privacy.audit.packs import packed_rows
from privacy.errors import LogError
from privacy.log.checkpoints import witness_line
from privacy.log.store import LogStore
from privacy.secagg.roster import Roster
from privacy.study.manifest import Study


def log_files(path: Path, study: Study, roster: Roster) -> dict[str, bytes]:
    """The files, by name, of the log in the database `path`; none where there is no such file.

    Raises `LogError` where no checkpoint has its quorum: there is nothing yet that anybody vouches
    for.
    """
    if study.pooled is None or not path.exists():
        return {}
    wanted = log_quorum(study)
    with LogStore(path) as store:
        for size in store.cosigned_sizes():
            note, found = store.checkpoint(size), store.cosignatures(size)
            members = [one for one in roster.members if one.public_key in found]
            if note is None or len(members) < wanted:
                continue
            lines = (witness_line(roster.consortium, one, found[one.public_key]) for one in members)
            return {
                ENTRIES_FILE: packed_rows(store.entries(0, size)),
                CHECKPOINT_FILE: note.with_lines(*lines).encode(),
            }
    raise LogError(
        f"No checkpoint of the log was cosigned by {wanted} sites.",
        "Run one more step, or wait until the sites have answered.",
    )

"""From evidence to the bundle's bytes: whoever has the parts makes the same file of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from privacy.audit.archive import write_archive
from privacy.audit.evidence import (
    ADAPTER_FILE,
    ENVIRONMENT_FILE,
    LAYOUT_FILE,
    ROSTERS_FILE,
    STUDY_FILE,
    RunEnd,
    study_of,
)
from privacy.audit.index import INDEX_FILE, Index
from privacy.audit.left_out import encode_left_out
from privacy.audit.packs import packed_rows
from privacy.audit.records import RunRecord
from privacy.secagg.chain import encode_rosters
from privacy.secagg.roster import SignedRoster
from privacy.secagg.sealed.attempt import sent_digest
from privacy.secagg.sealed.stored import StoredMachine
from privacy.wire.sealed import OpenedSum, Sealed, SealedStep


@dataclass(frozen=True, slots=True)
class RunParts:
    """One run as its coordinator has it. `vectors`: each site's as they travelled, in order."""

    record: RunRecord
    sessions: tuple[StoredMachine, ...] = ()
    requests: tuple[SealedStep, ...] = ()
    sums: tuple[OpenedSum, ...] = ()
    vectors: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    closing: RunEnd | None = None


@dataclass(frozen=True, slots=True)
class BundleParts:
    """Everything. `study`: the bytes of study.toml; `ledgers`, `statements`: what each site has
    handed over; `run`: whose adapter it is, 0 for none; `more`: the log's files, by name.
    """

    study: bytes
    rosters: tuple[SignedRoster, ...]
    ledgers: Mapping[str, bytes]
    statements: Mapping[str, bytes]
    runs: Mapping[int, RunParts]
    run: int = 0
    layout: bytes = b""
    adapter: bytes = b""
    environment: bytes = b""
    more: Mapping[str, bytes] = field(default_factory=dict)


def make_bundle(parts: BundleParts, *, with_vectors: bool = True) -> bytes:
    """The bundle. Without vectors they are named by their digests, and their sums not shown.

    Raises `AuditError` for more than a bundle holds, and what the parts' own readers raise.
    """
    files: dict[str, bytes] = {STUDY_FILE: parts.study, ROSTERS_FILE: encode_rosters(parts.rosters)}
    optional = {
        LAYOUT_FILE: parts.layout,
        ADAPTER_FILE: parts.adapter,
        ENVIRONMENT_FILE: parts.environment,
    }
    files |= {name: data for name, data in optional.items() if data}
    files |= {f"sites/{name}/ledger.bin": data for name, data in parts.ledgers.items()}
    files |= {f"sites/{name}/statement.json": data for name, data in parts.statements.items()}
    for number, run in parts.runs.items():
        found = _run_files(run, with_vectors)
        files |= {f"runs/{number:04d}/{name}": data for name, data in found.items()}
    files |= parts.more
    return reindexed(files, parts.rosters[-1].roster.consortium, parts.run)


def reindexed(files: Mapping[str, bytes], consortium: str, run: int) -> bytes:
    """The bundle of these files, with an index that fits them."""
    others = {name: data for name, data in files.items() if name != INDEX_FILE}
    digest = study_of(others[STUDY_FILE]).digest()
    index = Index.of(consortium, digest, run, others)
    return write_archive({INDEX_FILE: index.encode(), **others})


def _run_files(run: RunParts, with_vectors: bool) -> dict[str, bytes]:
    files = {"record.json": run.record.encode()}
    lists = {
        "sessions.bin": [_alone(session).encode() for session in run.sessions],
        "requests.bin": [_alone_step(request).encode() for request in run.requests],
        "sums.bin": [total.encode() for total in run.sums],
    }
    files |= {name: packed_rows(rows) for name, rows in lists.items() if rows}
    if run.closing is not None:
        alone = replace(run.closing.close, opened=())
        files["closing.bin"] = RunEnd(alone, run.closing.confirmed).encode()
    if with_vectors:
        files |= {
            f"vectors/{site}.bin": packed_rows(rows) for site, rows in run.vectors.items() if rows
        }
    else:
        named = {site: dict(map(_named, rows)) for site, rows in run.vectors.items() if rows}
        files |= {"left-out.json": encode_left_out(named)} if named else {}
    return files


def _named(data: bytes) -> tuple[bytes, bytes]:
    sealed = Sealed.decode(data)
    return sealed.label, sent_digest(sealed.lanes)


def _alone(session: StoredMachine) -> StoredMachine:
    """What the members have signed of a session, without how far its coordinator is."""
    return replace(session, step=None, in_session=(), commitments=())


def _alone_step(request: SealedStep) -> SealedStep:
    """What the coordinator has signed of a request, without what rode on it to one site."""
    return replace(request, opening=None, opened=())

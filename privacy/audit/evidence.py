"""A bundle's contents, decoded: what each file says, and what could not be read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from privacy.audit.archive import read_archive
from privacy.audit.environment import read_environment
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.audit.index import INDEX_FILE, VERSION, Index, check_files, version_of
from privacy.audit.ledgers import decode_ledger
from privacy.audit.left_out import decode_left_out
from privacy.audit.packs import unpacked_rows
from privacy.audit.records import RunRecord
from privacy.audit.statement import SignedStatement
from privacy.config import check
from privacy.errors import AuditError, CraftsflError
from privacy.ledger.chain import Chain
from privacy.secagg.chain import decode_rosters
from privacy.secagg.roster import SignedRoster
from privacy.secagg.sealed.stored import StoredMachine
from privacy.strict_toml import read_toml
from privacy.study.manifest import Study
from privacy.wire.bodies import DIGEST_BYTES, SIGNATURE_BYTES
from privacy.wire.closing import SealedClose
from privacy.wire.sealed import OpenedSum, SealedStep
from privacy.wire.sites import MAX_SITES

STUDY_FILE: Final = "study.toml"
ROSTERS_FILE: Final = "rosters.cfl"
LAYOUT_FILE: Final = "layout.json"
ENVIRONMENT_FILE: Final = "environment.json"
ADAPTER_FILE: Final = "adapter.safetensors"
MOST_BUNDLED_STEPS: Final = 100_000
_LARGEST_STUDY: Final = 4 << 20
_SITE_FILE: Final = re.compile(r"sites/([a-z0-9][a-z0-9-]{0,31})/(ledger\.bin|statement\.json)")
_RUN_FILE: Final = re.compile(
    r"runs/([0-9]{4,10})/(record\.json|sessions\.bin|requests\.bin|sums\.bin|closing\.bin|"
    r"left-out\.json|vectors/[a-z0-9][a-z0-9-]{0,31}\.bin)"
)
_ANYWHERE: Final = (
    INDEX_FILE,
    STUDY_FILE,
    ROSTERS_FILE,
    LAYOUT_FILE,
    ENVIRONMENT_FILE,
    ADAPTER_FILE,
    *("log/entries.bin", "log/checkpoint.txt", "log/cosigned.txt", "promotions.json"),
)

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The coordinator's last word of a run, and what each site has signed of it, by id."""

    close: SealedClose
    confirmed: tuple[tuple[int, bytes], ...]

    def encode(self) -> bytes:
        """u32 length | SealedClose | for each site: u16 id | signature 64."""
        data = self.close.encode()
        words = (site.to_bytes(2, "big") + signature for site, signature in self.confirmed)
        return len(data).to_bytes(4, "big") + data + b"".join(words)

    @classmethod
    def decode(cls, data: bytes) -> RunEnd:
        """The inverse; `AuditError` or `RefusedMessage` for anything else."""
        end = 4 + int.from_bytes(data[:4], "big")
        each = 2 + SIGNATURE_BYTES
        rest = data[end:]
        if len(rest) % each or len(rest) > each * MAX_SITES:
            raise AuditError("It is not the end of a run.")
        words = (rest[at : at + each] for at in range(0, len(rest), each))
        found = tuple((int.from_bytes(word[:2], "big"), word[2:]) for word in words)
        return cls(SealedClose.decode(data[4:end]), found)


@dataclass(frozen=True, slots=True)
class RunEvidence:
    """What there is of one run. `vectors`: each site's by label, as they travelled, unread;
    `left_out`: SHA-256 of those lanes that are not here, by site and label.
    """

    record: RunRecord
    sessions: tuple[StoredMachine, ...] = ()
    requests: tuple[SealedStep, ...] = ()
    sums: tuple[OpenedSum, ...] = ()
    vectors: Mapping[str, Mapping[bytes, bytes]] = field(default_factory=dict)
    left_out: Mapping[str, Mapping[bytes, bytes]] = field(default_factory=dict)
    closing: RunEnd | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a bundle says. `files` are those that others read: the log's, layout, adapter."""

    index: Index
    study: Study
    rosters: tuple[SignedRoster, ...]
    ledgers: Mapping[str, Chain]
    statements: Mapping[str, SignedStatement]
    runs: Mapping[int, RunEvidence]
    files: Mapping[str, bytes]


@dataclass
class _Notes:
    """Failures as they are found."""

    failures: list[AuditFailure] = field(default_factory=list)

    def read(
        self,
        what: Callable[[bytes], _Found],
        data: bytes,
        name: str,
        fault: Flaw = Flaw.MALFORMED,
        **where: str | int,
    ) -> _Found | None:
        """What `data` decodes to; None, and a failure, where it does not."""
        try:
            return what(data)
        except CraftsflError as error:
            words = f"{name}: {error.message}"
        except (ValueError, OverflowError, RecursionError) as error:
            words = f"{name} cannot be read: {type(error).__name__}."
        self.failures.append(failure(fault, words, **where))  # type: ignore[arg-type]
        return None


def read_evidence(data: bytes) -> tuple[Evidence | None, list[AuditFailure]]:
    """The contents of a bundle and what is wrong with their form; None where they say nothing."""
    notes = _Notes()
    files = notes.read(read_archive, data, "The file", Flaw.NOT_A_BUNDLE)
    if files is None:
        return None, notes.failures
    if INDEX_FILE not in files:
        return None, [failure(Flaw.NOT_A_BUNDLE, f"It has no {INDEX_FILE}.")]
    if version_of(files[INDEX_FILE]) > VERSION:
        words = (
            f"A bundle of version {version_of(files[INDEX_FILE])}; this craftsfl reads {VERSION}."
        )
        return None, [failure(Flaw.NEWER_VERSION, f"{words} Install a newer craftsfl.")]
    index = notes.read(Index.decode, files[INDEX_FILE], INDEX_FILE)
    if index is None:
        return None, notes.failures
    notes.failures += check_files(index, files)
    study = notes.read(_study, files.get(STUDY_FILE, b""), STUDY_FILE, Flaw.STUDY)
    rosters = notes.read(
        decode_rosters, files.get(ROSTERS_FILE, b""), ROSTERS_FILE, Flaw.ROSTER_SIGNATURES
    )
    if study is None or rosters is None:
        return None, notes.failures
    _known_names(files, notes)
    if ENVIRONMENT_FILE in files:
        notes.read(read_environment, files[ENVIRONMENT_FILE], ENVIRONMENT_FILE)
    ledgers, statements = _sites(files, notes)
    return (
        Evidence(index, study, rosters, ledgers, statements, _runs(files, notes), files),
        notes.failures,
    )


def study_of(text: bytes) -> Study:
    """The manifest whose file has these bytes; `AuditError` or `ConfigError` for others."""
    return _study(text)


def _study(data: bytes) -> Study:
    if len(data) > _LARGEST_STUDY:
        raise AuditError("It is too large.")
    try:
        values = read_toml(data.decode("utf-8"))
        json.dumps(values, default=str)
    except (ValueError, RecursionError) as error:
        raise AuditError("It is not valid TOML.") from error
    return check(values, Study, where="the manifest")


def _bundled(data: bytes) -> list[bytes]:
    if not data:
        raise AuditError("It holds nothing, and is there.")  # it has one form: to be absent
    return unpacked_rows(data, MOST_BUNDLED_STEPS)


def _known_names(files: Mapping[str, bytes], notes: _Notes) -> None:
    for name in files:
        run = _RUN_FILE.fullmatch(name)
        named = run is not None and run[1] == f"{int(run[1]):04d}"
        if not (name in _ANYWHERE or _SITE_FILE.fullmatch(name) or named):
            words = f"{name} is no part of a bundle."
            notes.failures.append(failure(Flaw.FILE_UNEXPECTED, words))


def _sites(
    files: Mapping[str, bytes], notes: _Notes
) -> tuple[dict[str, Chain], dict[str, SignedStatement]]:
    ledgers, statements = {}, {}
    for name, data in files.items():
        found = _SITE_FILE.fullmatch(name)
        if found is None:
            continue
        site = found[1]
        if found[2] == "ledger.bin":
            chain = notes.read(decode_ledger, data, name, Flaw.LEDGER_DAMAGED, site=site)
            if chain is not None:
                ledgers[site] = chain
        else:
            signed = notes.read(SignedStatement.decode, data, name, Flaw.STATEMENT, site=site)
            if signed is not None:
                statements[site] = signed
    return ledgers, statements


def _runs(files: Mapping[str, bytes], notes: _Notes) -> dict[int, RunEvidence]:
    parts: dict[int, dict[str, bytes]] = {}
    for name, data in files.items():
        found = _RUN_FILE.fullmatch(name)
        if found is not None and found[1] == f"{int(found[1]):04d}":
            parts.setdefault(int(found[1]), {})[found[2]] = data
    runs = {}
    for number, part in sorted(parts.items()):
        run = _run(number, part, notes)
        if run is not None:
            runs[number] = run
    return runs


def _run(number: int, part: Mapping[str, bytes], notes: _Notes) -> RunEvidence | None:
    def several(name: str, decode: Callable[[bytes], _Found]) -> tuple[_Found, ...]:
        rows = notes.read(_bundled, part[name], name) if name in part else ()
        read = (notes.read(decode, row, name, run=number) for row in rows or ())
        return tuple(found for found in read if found is not None)

    record = notes.read(
        RunRecord.decode, part.get("record.json", b""), "record.json", Flaw.RECORD, run=number
    )
    if record is None:
        return None
    if record.run != number:
        notes.failures.append(failure(Flaw.RECORD, "It is another run's.", run=number))
    closing = None
    if "closing.bin" in part:
        closing = notes.read(RunEnd.decode, part["closing.bin"], "closing.bin", run=number)
    left = None
    if "left-out.json" in part:
        left = notes.read(decode_left_out, part["left-out.json"], "left-out.json", run=number)
    return RunEvidence(
        record,
        several("sessions.bin", StoredMachine.decode),
        several("requests.bin", SealedStep.decode),
        several("sums.bin", OpenedSum.decode),
        _vectors(number, part, notes),
        left or {},
        closing,
    )


def _vectors(
    number: int, part: Mapping[str, bytes], notes: _Notes
) -> dict[str, dict[bytes, bytes]]:
    vectors: dict[str, dict[bytes, bytes]] = {}
    for name, data in part.items():
        if not name.startswith("vectors/"):
            continue
        site = name.removeprefix("vectors/").removesuffix(".bin")
        rows = notes.read(_bundled, data, name, site=site) or []
        vectors[site] = {row[:DIGEST_BYTES]: row for row in rows}
        if len(vectors[site]) != len(rows):
            words = "Two of its vectors are for one label."
            notes.failures.append(failure(Flaw.VECTOR_OTHER, words, site, number))
    return vectors

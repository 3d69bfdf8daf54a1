"""`bundle.json`: what a bundle is of, and the digest of every other file in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Self

from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.audit.statement import canonical
from privacy.errors import AuditError
from privacy.strict_json import read_json

INDEX_FILE: Final = "bundle.json"
FORMAT: Final = "craftsfl-bundle"
VERSION: Final = 1
_LARGEST: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Index:
    """The consortium's name, the study's digest (hex), the run whose adapter it is, and all files.

    `run` 0: no run of the study has ended. `files`: SHA-256 in hex, by name.
    """

    consortium: str
    study: str
    run: int
    files: Mapping[str, str]

    @classmethod
    def of(cls, consortium: str, study: bytes, run: int, files: Mapping[str, bytes]) -> Self:
        """The index of `files`."""
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        return cls(consortium, study.hex(), run, digests)

    def encode(self) -> bytes:
        """The file."""
        values = {"bundle": FORMAT, "version": VERSION, "consortium": self.consortium}
        more = {"study": self.study, "run": self.run, "files": dict(self.files)}
        return canonical({**values, **more}).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse; `AuditError` for anything else. `newer` tells another version."""
        values = _values(data)
        names = {"bundle", "version", "consortium", "study", "run", "files"}
        files = values.get("files")
        if values.keys() != names or not isinstance(files, dict) or type(values["run"]) is not int:
            raise AuditError("bundle.json is not an index.")
        texts = (values["consortium"], values["study"], *files.values())
        if not all(isinstance(text, str) for text in texts):
            raise AuditError("bundle.json is not an index.")
        found = cls(str(values["consortium"]), str(values["study"]), values["run"], files)
        if found.encode() != data:
            raise AuditError("bundle.json is not in its canonical form.")
        return found


def version_of(data: bytes) -> int:
    """The version that an index claims to be of; 0 where it claims none."""
    try:
        version = _values(data).get("version")
    except AuditError:
        return 0
    return version if type(version) is int else 0


def check_files(index: Index, files: Mapping[str, bytes]) -> Iterator[AuditFailure]:
    """Every file is the one that the index names, and there is no other."""
    for name in sorted(index.files.keys() - files.keys()):
        yield failure(Flaw.FILE_MISSING, f"{name} is not in the bundle, and its index names it.")
    for name in sorted(files.keys() - index.files.keys() - {INDEX_FILE}):
        yield failure(Flaw.FILE_UNEXPECTED, f"{name} is in the bundle, and not in its index.")
    for name, digest in sorted(index.files.items()):
        if name in files and hashlib.sha256(files[name]).hexdigest() != digest:
            yield failure(Flaw.FILE_DIGEST, f"{name} is not the file that the index names.")


def _values(data: bytes) -> dict[str, object]:
    if len(data) > _LARGEST:
        raise AuditError("bundle.json is too large.")
    try:
        values = read_json(data.decode("ascii"))
    except ValueError as error:
        raise AuditError("bundle.json is not JSON.") from error
    if not isinstance(values, dict) or values.get("bundle") != FORMAT:
        raise AuditError("bundle.json is not the index of a bundle.")
    return values

"""The entries of the log as bytes; one entry is one leaf of the tree.

    version u8 (1) | kind u8 | time u64, microseconds since 1970 by the coordinator's clock | body

    1 study      the manifest, canonical JSON: what its digest is of
    2 roster     a signed roster of the consortium (`privacy.secagg.roster`)
    3 records    what one site's ledger has got since the last of these (`privacy.log.batches`)
    4 heads      how far every ledger is (`privacy.log.heads`); the last entry under a checkpoint
    5 step       an attempt that was opened      8 recipe      versions of program and packages
    6 refusal    what a site has refused         9 promotion   an adapter that was released
    7 model      a base, an adapter             10 signoff     an auditor's verdict on a bundle
                                                11 readers     what a readers' study showed, signed

Bodies of 5 to 11 are JSON objects in one form (`facts`). Only 2 and 3 are signed by those who say
it; for the others the log's checkpoints stand. A kind's meaning never changes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self, TypeAlias

from privacy.errors import LogError
from privacy.strict_json import read_json
from privacy.wire.codec import Reader, Writer
from privacy.wire.reasons import RefusedMessage

LogFacts: TypeAlias = dict[str, object]

_VERSION: Final = 1
LARGEST_ENTRY: Final = 1 << 20  # bytes


class EntryKind(IntEnum):
    """What an entry is about. Numbers never change."""

    STUDY = 1
    ROSTER = 2
    RECORDS = 3
    HEADS = 4
    STEP = 5
    REFUSAL = 6
    MODEL = 7
    RECIPE = 8
    PROMOTION = 9
    SIGNOFF = 10
    READERS = 11


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One entry; what its body may be is up to its kind."""

    kind: EntryKind
    time: int
    body: bytes

    def encode(self) -> bytes:
        """The entry's bytes, `LARGEST_ENTRY` at most; raises `LogError` for what does not fit."""
        if len(self.body) > LARGEST_ENTRY - 10:
            raise LogError(f"An entry of the log has {len(self.body)} bytes: too many.")
        try:
            head = Writer().u8(_VERSION).u8(self.kind).u64(self.time).done()
        except RefusedMessage as error:
            raise LogError(f"An entry of the log cannot be written. {error.message}") from error
        return head + self.body

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`; `LogError` for anything else."""
        if len(data) > LARGEST_ENTRY:
            raise LogError("An entry of the log is too long.")
        reader = Reader(data)
        try:
            version, kind, time = reader.u8(), reader.u8(), reader.u64()
        except RefusedMessage:
            raise LogError("An entry of the log is cut off.") from None
        if version != _VERSION or kind not in set(EntryKind):
            raise LogError(
                f"An entry of the log is of version {version}, kind {kind}, which are not known.",
                "Install the newest craftsfl.",
            )
        return cls(EntryKind(kind), time, data[10:])


def facts(values: LogFacts) -> bytes:
    """The one form of a JSON object: keys in order, ASCII, no space, no NaN."""
    try:
        return json.dumps(
            values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
        ).encode("ascii")
    except (TypeError, ValueError) as error:
        raise LogError("These facts cannot be written into the log.") from error


def facts_of(body: bytes) -> LogFacts:
    """The inverse of `facts`; `LogError` for anything else."""
    try:
        found = read_json(body.decode("ascii"))
    except ValueError:
        raise LogError("An entry of the log is not JSON.") from None
    if not isinstance(found, dict) or facts(found) != body:
        raise LogError("An entry of the log is not in its one form.")
    return found

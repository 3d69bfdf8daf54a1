"""What coordinator and sites tell each other about the consortium's log; layouts as in `bodies`.

Server to site: LogShown. Site to server: LogAnswer. Three fields of these, the same as those of a
step and of a sealed vector, are opaque here; what is in them is `privacy.log.news`'s.
"""

# Why: docs/adr/0059-a-log-that-every-site-witnesses.md

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final, Self

from privacy.wire.bodies import DIGEST_BYTES, SIGNATURE_BYTES, Body, Kind
from privacy.wire.codec import Reader, Writer, malformed

MAX_LOG_BYTES: Final = 32_768  # of one field: the heads of 370 ledgers


@dataclass(frozen=True, slots=True)
class LogFields:
    """Down: a table of heads, the checkpoint, its proofs. Up: records, nothing, a cosignature."""

    head: bytes = b""
    checkpoint: bytes = b""
    cosignature: bytes = b""

    def __bool__(self) -> bool:
        return bool(self.head or self.checkpoint or self.cosignature)


NO_LOG: Final = LogFields()


@dataclass(frozen=True, slots=True)
class LogShown(Body):
    """Down: the log as it is. `since`: how many records of this site's ledger it holds."""

    KIND: ClassVar[Kind] = Kind.LOG_SHOWN
    study_digest: bytes
    since: int
    log: LogFields
    signature: bytes = bytes(SIGNATURE_BYTES)

    def signed_part(self) -> bytes:
        """All bytes before the coordinator's signature."""
        return self.encode()[:-SIGNATURE_BYTES]

    def _write(self, writer: Writer) -> None:
        writer.fixed(self.study_digest, DIGEST_BYTES).u64(self.since)
        write_log_fields(writer, self.log)
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        digest, since, log = reader.fixed(DIGEST_BYTES), reader.u64(), read_log_fields(reader)
        return cls(digest, since, log, reader.fixed(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class LogAnswer(Body):
    """Up: which checkpoint the site has cosigned last, its records, and its cosignature.

    `size` and `root` are of that checkpoint, 0 and zeros for none. `check` is the number of a
    `privacy.wire.checks.Check`: why there is no cosignature of the one that was shown; 0 with one.
    """

    KIND: ClassVar[Kind] = Kind.LOG_ANSWER
    size: int
    root: bytes
    check: int
    log: LogFields
    signature: bytes = bytes(SIGNATURE_BYTES)

    def signed_part(self) -> bytes:
        """All bytes before the site's signature."""
        return self.encode()[:-SIGNATURE_BYTES]

    def _write(self, writer: Writer) -> None:
        writer.u64(self.size).fixed(self.root, DIGEST_BYTES).u16(self.check)
        write_log_fields(writer, self.log)
        writer.fixed(self.signature, SIGNATURE_BYTES)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        size, root, check = reader.u64(), reader.fixed(DIGEST_BYTES), reader.u16()
        return cls(size, root, check, read_log_fields(reader), reader.fixed(SIGNATURE_BYTES))


LOG_BODIES: dict[int, type[Body]] = {body.KIND: body for body in (LogShown, LogAnswer)}


def write_log_fields(writer: Writer, log: LogFields) -> None:
    """Append the three fields, each after its length (u16)."""
    for field in (log.head, log.checkpoint, log.cosignature):
        if len(field) > MAX_LOG_BYTES:
            raise malformed("A field for the log is too long.")
        writer.u16(len(field)).fixed(field, len(field))


def read_log_fields(reader: Reader) -> LogFields:
    """Take the three fields."""
    return LogFields(*(_field(reader) for _ in range(3)))


def _field(reader: Reader) -> bytes:
    length = reader.u16()
    if length > MAX_LOG_BYTES:
        raise malformed("A field for the log is too long.")
    return reader.fixed(length)

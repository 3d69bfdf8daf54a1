"""Signed notes (C2SP signed-note): a text, a blank line, and lines of signatures.

    — NAME base64(key id 4 | signature)

where the key id is SHA-256(name | "\\n" | type u8 | public key)[:4]. Keys here are Ed25519's: of
type 1, which signs the text, and of type 4, which cosigns with a time
(`privacy.log.checkpoints`).

Guarantees, each with a test: a note has one byte string; what is not exactly in this form is
refused; signatures of unknown keys are ignored, and a bad one of a known key is not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from privacy.errors import LogError

_DASH: Final = "\u2014 "
_ID_BYTES: Final = 4
_LONGEST_NOTE: Final = 1 << 20
_MOST_SIGNATURES: Final = 4096


class NoteType(IntEnum):
    """The types of signatures; numbers are C2SP's."""

    ED25519 = 1
    COSIGNATURE = 4


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key, 32 bytes of Ed25519, under the name that it signs with."""

    name: str
    type: NoteType
    public: bytes

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise LogError(f"{self.name!r} cannot be the name of a key in a note.")

    @property
    def id(self) -> bytes:
        """4 bytes that tell the keys of one name apart."""
        told = self.name.encode() + b"\n" + bytes([self.type]) + self.public
        return hashlib.sha256(told).digest()[:_ID_BYTES]

    def line(self, signature: bytes) -> NoteLine:
        """A signature of this key, as it stands in a note."""
        return NoteLine(self.name, self.id, signature)


@dataclass(frozen=True, slots=True)
class NoteLine:
    """One signature of a note, by whomever."""

    name: str
    id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class SignedNote:
    """A text that ends with a newline, and its signatures; none of them has been verified."""

    text: str
    lines: tuple[NoteLine, ...]

    def encode(self) -> bytes:
        """The one byte string of this note; `LogError` for what cannot be one."""
        _check_text(self.text)
        data = (self.text + "\n" + "".join(map(str, self.lines))).encode()
        if len(data) > _LONGEST_NOTE:
            raise LogError("A note has too many signatures.")
        return data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The note whose bytes are `data`; `LogError` for anything else."""
        if len(data) > _LONGEST_NOTE:
            raise _wrong("it is too long")
        try:
            whole = data.decode()
        except UnicodeDecodeError:
            raise _wrong("it is not UTF-8") from None
        text, blank, signed = whole.rpartition("\n\n")
        if not blank or not signed.endswith("\n"):
            raise _wrong("it has no signatures")
        rows = signed[:-1].split("\n")
        if len(rows) > _MOST_SIGNATURES:
            raise _wrong("it has too many signatures")
        note = cls(text + "\n", tuple(map(_line, rows)))
        if note.encode() != data:
            raise _wrong("it has another form than its own")
        return note

    def signatures_by(self, key: NoteKey) -> tuple[bytes, ...]:
        """What claims to be signed by `key`; nothing is verified."""
        named = (key.name, key.id)
        return tuple(line.signature for line in self.lines if (line.name, line.id) == named)

    def with_lines(self, *lines: NoteLine) -> SignedNote:
        """The note with these signatures too, each once."""
        new = [line for line in dict.fromkeys(lines) if line not in self.lines]
        return SignedNote(self.text, (*self.lines, *new))


def _line(row: str) -> NoteLine:
    name, space, encoded = row.removeprefix(_DASH).partition(" ")
    if not row.startswith(_DASH) or not space or not _is_name(name):
        raise _wrong("a line of signatures is in another form")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong("a signature is not base64") from None
    if len(data) <= _ID_BYTES:
        raise _wrong("a signature is too short")
    return NoteLine(name, data[:_ID_BYTES], data[_ID_BYTES:])


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise _wrong("its text does not end with a newline")
    if any(sign < " " and sign != "\n" for sign in text):
        raise _wrong("it has control characters")


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(map(str.isspace, name))


def _wrong(why: str) -> LogError:
    return LogError(f"This is not a signed note: {why}.", "Get it again from its source.")

"""The marker next to a site's identity: which ledger the identity has, and how long it was.

It is kept next to `site.key` as `site.key.ledger`, is made with the key, and goes wherever the key
goes. Without it a second state folder, or a fresh one, would open at epsilon 0 under the same
identity. Layout: the two slots of a `HeadFile`, written at every append, then a `Note`, written
at every start; all zeros while the identity has no ledger yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from privacy.errors import LedgerError
from privacy.files import hint_for, read_private, remove_parts, write_private, write_private_once
from privacy.identity import MARKER_BYTES, marker_path
from privacy.ledger.files import LARGEST, HeadFile, slots_of
from privacy.ledger.head import Head
from privacy.ledger.notes import Note


@dataclass(frozen=True, slots=True)
class Marked:
    """What a marker says; both None while the identity has no ledger yet."""

    head: Head | None = None  # the newest
    note: Note | None = None  # of the last start


@dataclass(frozen=True, slots=True)
class Marker:
    """The marker of the identity in the file `key`."""

    key: Path

    @property
    def path(self) -> Path:
        """The marker's file."""
        return marker_path(self.key)

    @property
    def heads(self) -> HeadFile:
        """The part that is written at every append."""
        return HeadFile(self.path)

    def exists(self) -> bool:
        """Whether there is one."""
        return self.path.exists()

    def read(self) -> Marked:
        """What it says. Raises `LedgerError` if it is missing or damaged."""
        try:
            data = read_private(self.path, LARGEST)
        except FileNotFoundError:
            raise self._missing() from None
        except OSError as error:
            raise self._unusable(error) from None
        if not any(data):
            return Marked()
        head = self.heads.read()
        note = self._note(data[MARKER_BYTES:])
        if head is None or (note is not None and note.head.ledger != head.ledger):
            raise self._damaged("its parts belong to two ledgers.")
        return Marked(head, note)

    def create(self) -> None:
        """Record that the identity has no ledger yet. Raises `LedgerError` if there is a marker."""
        try:
            write_private_once(self.path, bytes(MARKER_BYTES))
        except OSError as error:
            raise self._unusable(error) from None

    def write(self, note: Note) -> None:
        """Record that the identity's ledger is that of `note`; on disk when this returns."""
        try:
            remove_parts(self.path)  # the identity is held: nobody else writes it
            write_private(self.path, slots_of(note.head) + note.encode())
        except OSError as error:
            raise self._unusable(error) from None

    def _note(self, data: bytes) -> Note | None:
        if not data:
            return None
        try:
            return Note.decode(data)
        except LedgerError as error:
            raise self._damaged(error.message, error.hint) from error

    def _missing(self) -> LedgerError:
        return LedgerError(
            f"{self.path} is missing: it says which ledger the identity {self.key} has.",
            "Put it next to the key, from wherever the key came or from its backup. If it is lost, "
            "or the key is older than such files: craftsfl site migrate-ledger site.toml.",
        )

    def _damaged(self, why: str, hint: str = "") -> LedgerError:
        return LedgerError(
            f"The file {self.path} is damaged: {why}",
            hint
            or "Restore it from its backup. If there is none, and the ledger is whole: remove it, "
            "then craftsfl site migrate-ledger site.toml.",
        )

    def _unusable(self, error: OSError) -> LedgerError:
        return LedgerError(
            f"{self.path} cannot be read or written: {error.strerror}.",
            hint_for(
                error,
                "The agent's user writes it at every round: check the owner of the key's folder, "
                "and the disk.",
            ),
        )

"""The site's key for patients: what a line is made of, and how a patient is named in a log.

Patient ids are few and guessable, so a plain hash could be inverted by trying them; a keyed one
(HMAC-SHA256, RFC 2104) cannot be without the key. The key never leaves the state folder.
"""

from __future__ import annotations

import hmac
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from privacy.errors import LedgerError
from privacy.files import hint_for, read_secret, write_private_once

_KEY_BYTES: Final = 32
_LARGEST: Final = 4096  # how much is read of a file that is not a key
# One domain for each use of the key.
_LINE: Final = b"craftsfl/patient-line/v1\0"
_CONTENT: Final = b"craftsfl/tile-content/v1\0"
_SHORT: Final = b"craftsfl/log-name/v1\0"
_SLIDE: Final = b"craftsfl/slide-name/v1\0"
_CHECK: Final = b"craftsfl/patient-key/v1\0"
_SHORT_DIGITS: Final = 8
_SLIDE_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class PatientKey:
    """HMAC-SHA256 under 32 secret bytes."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != _KEY_BYTES:
            raise LedgerError("The patients' key is damaged.", "Restore it from a backup.")

    def line(self, patient_id: str) -> bytes:
        """The line (32 bytes) of an id in the form of `client.data.patient_key`."""
        return self._mac(_LINE, patient_id.encode())

    def content(self, digest: bytes) -> bytes:
        """The name (32 bytes) of a tile whose file has this SHA-256."""
        return self._mac(_CONTENT, digest)

    def slide(self, name: str) -> str:
        """What the tiles of a slide are called, by the slide's own file name: 16 hex digits."""
        return self._mac(_SLIDE, name.encode("utf-8", "surrogateescape")).hex()[:_SLIDE_DIGITS]

    def short(self, line: bytes) -> str:
        """What a log at the site calls a line: 8 hex digits, unlike those at any other site."""
        return self._mac(_SHORT, line).hex()[:_SHORT_DIGITS]

    def check(self) -> bytes:
        """What a register remembers of its key, to recognise a wrong one."""
        return self._mac(_CHECK, b"")

    def _mac(self, domain: bytes, data: bytes) -> bytes:
        return hmac.digest(self.secret, domain + data, "sha256")


def load_or_make_patient_key(path: Path) -> PatientKey:
    """Read the key file, or make it from the system's randomness, readable only by its owner.

    Whole or not at all: two processes that make it at once end with the same key. Raises
    `LedgerError`.
    """
    try:
        if not path.exists():
            with suppress(FileExistsError):  # another process was first: its key counts
                write_private_once(path, secrets.token_bytes(_KEY_BYTES))
        return PatientKey(read_secret(path, _LARGEST))
    except OSError as error:
        raise LedgerError(
            f"The patients' key {path} cannot be used: {error.strerror}.",
            hint_for(error, "Check the owner of the state folder and the free space."),
        ) from None

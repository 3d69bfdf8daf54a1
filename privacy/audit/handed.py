"""What one site hands over for a bundle: its ledger, and its signed word on its budget.

A small zip file like a bundle's, `sites/NAME/ledger.bin` and `sites/NAME/statement.json`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from privacy.audit.archive import read_archive, write_archive
from privacy.audit.ledgers import encode_ledger
from privacy.audit.statement import SignedStatement, SiteStatement
from privacy.budget import Book, Limits
from privacy.errors import AuditError
from privacy.identity import Identity
from privacy.ledger import Entry, Head
from privacy.study.manifest import Study


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A site's part of a bundle."""

    site: str
    ledger: bytes
    statement: bytes

    @classmethod
    def of(
        cls,
        site: str,
        study: Study,
        identity: Identity,
        limits: Limits,
        ledger: tuple[Head, Iterable[bytes], Iterable[Entry]],
        time: float,
    ) -> Self:
        """Of a site's `ledger`: its head, the bytes of all its records, and its attempts."""
        head, records, entries = ledger
        book = Book.of(entries)
        said = SiteStatement(
            site=site,
            study=study.digest(),
            head=head.to_bytes(),
            limits=limits,
            epsilon=float(book.study_epsilon(study.digest(), limits.observers)),
            lifetime=float(book.lifetime_epsilon(limits)),
            time=math.floor(time),
        )
        signed = SignedStatement.signed(said, identity)
        return cls(site, encode_ledger(head, records), signed.encode())

    def encode(self) -> bytes:
        """The file."""
        folder = f"sites/{self.site}"
        return write_archive(
            {f"{folder}/ledger.bin": self.ledger, f"{folder}/statement.json": self.statement}
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse; `AuditError` for anything else."""
        files = read_archive(data)
        names = sorted(files)
        parts = names[0].split("/") if names else []
        if len(parts) != 3 or names != [f"sites/{parts[1]}/{n}" for n in _NAMES]:
            raise AuditError(
                "It is not what a site hands over.", "Make it at the site: craftsfl site hand-over"
            )
        return cls(parts[1], files[names[0]], files[names[1]])


_NAMES = ("ledger.bin", "statement.json")

"""The coordinator's own list of promotions: on disk before an alias moves, then in the log.

The log belongs to one process at a time. Whoever promotes while a ServerApp has it leaves the entry
here, and the ServerApp takes it at its next step; else whoever promotes writes it there at once.
"""

# Why: docs/adr/0065-promotions-and-witnesses.md

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from privacy.audit.promotions import (
    LoggedPromotion,
    PromotionRow,
    decode_promotions,
    encode_promotions,
    readers_facts,
    signoff_facts,
)
from privacy.errors import AuditError, DeploymentError
from privacy.files import told_if_unwritable, write_public
from privacy.log.entries import EntryKind, LogFacts


class PromotionRecord:
    """The list in the file `path`, which need not exist. One process at a time adds to it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, study: bytes | None = None) -> tuple[PromotionRow, ...]:
        """Those of `study` (its digest), or all; in order. Raises `DeploymentError`."""
        try:
            found = decode_promotions(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, AuditError) as error:
            raise DeploymentError(
                f"The list of promotions {self._path} cannot be read: "
                f"{error.strerror if isinstance(error, OSError) else error.message}",
                "Restore it from a backup of the coordinator's state folder.",
            ) from None
        return tuple(row for row in found if study in (None, bytes.fromhex(row.promotion.study)))

    def add(self, row: PromotionRow) -> PromotionRow:
        """Add it with the next number of its study; it is on disk when this returns."""
        number = 1 + len(self.rows(bytes.fromhex(row.promotion.study)))
        numbered = replace(row, promotion=replace(row.promotion, number=number))
        hint = "Check the disk and the owner; nothing was promoted."
        with told_if_unwritable(self._path, hint, DeploymentError):
            write_public(self._path, encode_promotions([*self.rows(), numbered]))
        return numbered

    def newest(self, study: bytes) -> LoggedPromotion | None:
        """The study's newest promotion."""
        rows = self.rows(study)
        return rows[-1].promotion if rows else None

    def entries(self) -> list[tuple[EntryKind, LogFacts]]:
        """What the log has to hold of all of them, in order."""
        return entries_of(self.rows())


def entries_of(rows: Sequence[PromotionRow]) -> list[tuple[EntryKind, LogFacts]]:
    """The log's entries: verdicts and readers' results first, then what rests on them."""
    found: list[tuple[EntryKind, LogFacts]] = []
    for row in rows:
        found += [(EntryKind.SIGNOFF, signoff_facts(one)) for one in row.signoffs]
        found += [(EntryKind.READERS, readers_facts(one)) for one in row.readings]
        found.append((EntryKind.PROMOTION, row.promotion.facts()))
    return found

"""A note on a ledger, to be kept elsewhere: its newest head, and what it had charged.

The head exposes an older copy or another ledger; the charges are for the day on which the ledger is
lost, so that its successor counts them as spent. Bytes: SHA-256 of the rest | JSON, so that damage
is noticed. The note is neither secret nor signed: it is kept where the keys are, and its head is
signed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from privacy.errors import AccountingError, LedgerError
from privacy.ledger.attempts import Charge, Entry, State, charged
from privacy.ledger.head import Head
from privacy.mechanisms.registry import event_from_json

VERSION: Final = 1
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Note:
    """`spent`: each kind of charge and how often it was charged, up to `head`.

    `running` is the only charge that can have come after `head` until the next note. So many
    attempts were `begun` by then and not charged; None in a note of an older version.
    """

    head: Head
    spent: tuple[tuple[Charge, int], ...]
    running: Charge | None
    begun: int | None = None

    @classmethod
    def of(cls, head: Head, entries: tuple[Entry, ...], running: Charge | None) -> Note:
        """The note on a ledger as it is."""
        begun = sum(entry.state is State.INTENT for entry in entries)
        return cls(head, tuple(Counter(charged(entries)).items()), running, begun)

    def charges_until(self, newest: Head) -> tuple[Charge, ...]:
        """At least everything charged up to record `newest` of the same ledger.

        An attempt is charged by a record of its own, after the one that began it: so of the
        records after the note's head one may charge each attempt that had begun, and of the others
        every second one, at most. Raises `LedgerError` where it is not known for what.
        """
        later = max(0, newest.sequence - self.head.sequence)
        if later and self.running is None:
            raise LedgerError(
                f"What the ledger {newest.ledger.hex()} charged after record {self.head.sequence} "
                "is not known.",
                "Restore the newest backup of the whole state folder.",
            )
        known = [charge for charge, count in self.spent for _ in range(count)]
        begun = later if self.begun is None else min(later, self.begun)
        most = begun + (later - begun) // 2
        return (*known, *([self.running] * most if self.running is not None else []))

    def encode(self) -> bytes:
        """The note's bytes."""
        text = json.dumps(
            {
                "version": VERSION,
                "head": self.head.to_bytes().hex(),
                "spent": [[_values(charge), count] for charge, count in self.spent],
                "running": None if self.running is None else _values(self.running),
                "begun": self.begun,
            }
        ).encode()
        return hashlib.sha256(text).digest() + text

    @classmethod
    def decode(cls, data: bytes) -> Note:
        """The inverse of `encode`; `LedgerError` for anything else."""
        digest, text = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(text).digest() != digest:
            raise LedgerError("It is damaged.")
        try:
            held = json.loads(text)
            if held["version"] != VERSION:
                raise LedgerError(
                    f"It is of version {held['version']}; this craftsfl reads version {VERSION}.",
                    "Install the newest craftsfl that this site has used.",
                )
            running, begun = held["running"], held.get("begun")
            return cls(
                head=_signed(Head.from_bytes(bytes.fromhex(held["head"]))),
                spent=tuple((_charge(charge), int(count)) for charge, count in held["spent"]),
                running=None if running is None else _charge(running),
                begun=None if begun is None else _count(begun),
            )
        except (ValueError, KeyError, TypeError, RecursionError, AccountingError) as error:
            raise LedgerError("It is not a note on a ledger.") from error


def _values(charge: Charge) -> dict[str, object]:
    return {
        "study": charge.study_digest.hex(),
        "event": charge.event.to_json(),
        "delta": charge.delta,
    }


def _charge(held: dict[str, Any]) -> Charge:
    return Charge(bytes.fromhex(held["study"]), event_from_json(held["event"]), held["delta"])


def _count(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ValueError("not a count")
    return number


def _signed(head: Head) -> Head:
    head.verify()
    return head

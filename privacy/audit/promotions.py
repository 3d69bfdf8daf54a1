"""Promotions of a study: which adapter was made the champion, in order, on whose signatures.

In the log each is an entry of kind 9 (`LoggedPromotion.facts`), behind entries of kind 10, the
auditors' signed verdicts, and of kind 11, the readers' signed results, to the byte. A bundle has
the coordinator's own list beside them,

    [{"promotion": {...}, "signoffs": [signed verdicts], "readers": [signed results]}, ...]

as canonical JSON, without `readers` where there are none: what is in one and not in the other is a
failure.
"""

# Why: docs/adr/0065-promotions-and-witnesses.md

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Final, Self

from privacy.audit.readers_result import SignedReaders
from privacy.audit.signoff import SignedVerdict
from privacy.errors import AuditError
from privacy.strict_json import read_json

MOST_PROMOTIONS: Final = 10_000
_LARGEST: Final = 64 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True)
class LoggedPromotion:
    """The `number`-th of a study (its digest, hex), from 1: `version` of `run` became the champion.

    `digest`: SHA-256 (hex) of the adapter's file; `back`: by a rollback, to one that was it before.
    """

    study: str
    number: int
    run: int
    version: str
    digest: str
    back: bool

    def facts(self) -> dict[str, object]:
        """As the log has it."""
        return asdict(self)

    @classmethod
    def of_facts(cls, values: object) -> Self:
        """The inverse; `AuditError` for anything else."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise AuditError("A promotion is not one.")
        found = cls(**values)
        numbers = (found.number, found.run)
        texts = ((found.study, _DIGEST), (found.digest, _DIGEST), (found.version, _VERSION))
        sound = all(type(n) is int and n > 0 for n in numbers) and type(found.back) is bool
        if not sound or not all(isinstance(t, str) and shape.fullmatch(t) for t, shape in texts):
            raise AuditError("A promotion is not one.")
        return found


@dataclass(frozen=True, slots=True)
class PromotionRow:
    """A promotion, and the verdicts and readers' results on which it rests."""

    promotion: LoggedPromotion
    signoffs: tuple[SignedVerdict, ...] = ()
    readings: tuple[SignedReaders, ...] = ()


def signoff_facts(signed: SignedVerdict) -> dict[str, object]:
    """A signed verdict as the log has it: its own bytes are in the one form of the log's facts."""
    values: dict[str, object] = json.loads(signed.encode())
    return values


def readers_facts(signed: SignedReaders) -> dict[str, object]:
    """The same of a readers' result."""
    values: dict[str, object] = json.loads(signed.encode())
    return values


def encode_promotions(rows: Sequence[PromotionRow]) -> bytes:
    """The list as a file."""
    values = [_values(row) for row in rows]
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii")


def _values(row: PromotionRow) -> dict[str, object]:
    values: dict[str, object] = {
        "promotion": row.promotion.facts(),
        "signoffs": [signoff_facts(one) for one in row.signoffs],
    }
    if row.readings:
        values["readers"] = [readers_facts(one) for one in row.readings]
    return values


def decode_promotions(data: bytes) -> tuple[PromotionRow, ...]:
    """The inverse; `AuditError` for anything else."""
    if len(data) > _LARGEST:
        raise AuditError("The list of promotions is too large.")
    try:
        held = read_json(data.decode("ascii"))
        if not isinstance(held, list) or len(held) > MOST_PROMOTIONS:
            raise TypeError
        found = tuple(_row(one) for one in held)
    except (ValueError, KeyError, TypeError) as error:
        raise AuditError("It is not a list of promotions.") from error
    if encode_promotions(found) != data:
        raise AuditError("The list of promotions is not in its canonical form.")
    return found


def signoff_of(values: object) -> SignedVerdict:
    """The inverse of `signoff_facts`; `AuditError` for anything else."""
    return SignedVerdict.decode(_text(values))


def readers_of(values: object) -> SignedReaders:
    """The inverse of `readers_facts`; `AuditError` for anything else."""
    return SignedReaders.decode(_text(values))


def _text(values: object) -> bytes:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text.encode("ascii")


def _row(values: object) -> PromotionRow:
    if not isinstance(values, dict) or values.keys() - {"readers"} != {"promotion", "signoffs"}:
        raise TypeError
    signoffs, readings = values["signoffs"], values.get("readers", [])
    if not isinstance(signoffs, list) or not isinstance(readings, list):
        raise TypeError
    return PromotionRow(
        LoggedPromotion.of_facts(values["promotion"]),
        tuple(signoff_of(one) for one in signoffs),
        tuple(readers_of(one) for one in readings),
    )

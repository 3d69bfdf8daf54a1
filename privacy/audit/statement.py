"""What a site says of its own budget: limits, what it claims to have used, and where its ledger is.

    {"statement": {...}, "signature": hex of 64 bytes}

as canonical JSON. The site's identity, whose public half the roster lists, signs
`_TAG | canonical JSON of the statement`. Limits are the site's to choose and stand nowhere else, so
its word for them is all there is; what was used is recomputed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final, Self

from privacy.budget import Limits
from privacy.errors import AuditError
from privacy.identity import Identity, verify
from privacy.strict_json import read_json

_TAG: Final = b"craftsfl/site-statement/v1\0"
VERSION: Final = 1
_HEAD_BYTES: Final = 153
_LARGEST: Final = 1 << 16
LATEST_SECOND: Final = 253_402_300_800  # Unix seconds: the year 10000
_LIMITS: Final = {field.name: field.type for field in fields(Limits)}


@dataclass(frozen=True, slots=True)
class SiteStatement:
    """`epsilon`, `lifetime`: what the site claims to have used of both budgets, at most, by `head`.

    `head` is that of its ledger (`privacy.ledger.head`, 153 bytes); `study` a digest, 32 bytes;
    `time` whole Unix seconds. Without noise the claims are infinite.
    """

    site: str
    study: bytes
    head: bytes
    limits: Limits
    epsilon: float
    lifetime: float
    time: int

    def to_json(self) -> str:
        """Canonical: the same statement has the same text."""
        return canonical(
            {
                "version": VERSION,
                "site": self.site,
                "study": self.study.hex(),
                "head": self.head.hex(),
                "limits": asdict(self.limits),
                "epsilon": _finite(self.epsilon),
                "lifetime": _finite(self.lifetime),
                "time": self.time,
            }
        )


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A statement and the signature of the site's identity, 64 bytes."""

    statement: SiteStatement
    signature: bytes

    @classmethod
    def signed(cls, statement: SiteStatement, identity: Identity) -> Self:
        """The statement, signed."""
        return cls(statement, identity.sign(_signed_bytes(statement)))

    def is_signed_by(self, public: bytes) -> bool:
        """Whether the holder of this identity key (32 bytes) has signed it."""
        return verify(public, self.signature, _signed_bytes(self.statement))

    def encode(self) -> bytes:
        """The file."""
        held = {"statement": json.loads(self.statement.to_json())}
        return canonical({**held, "signature": self.signature.hex()}).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse; `AuditError` for anything else, another order of its keys included."""
        try:
            if len(data) > _LARGEST:
                raise ValueError
            held = read_json(data.decode("ascii"))
            if not isinstance(held, dict):
                raise TypeError
            found = cls(_statement(held["statement"]), bytes.fromhex(held["signature"]))
        except (ValueError, KeyError, TypeError) as error:
            raise AuditError("A site's statement is not one.") from error
        if found.encode() != data:
            raise AuditError("A site's statement is not in its canonical form.")
        return found


def canonical(values: Mapping[str, object]) -> str:
    """JSON with sorted keys, ASCII, without blanks."""
    return json.dumps(
        values, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def _signed_bytes(statement: SiteStatement) -> bytes:
    return _TAG + statement.to_json().encode("ascii")


def _statement(held: Mapping[str, object]) -> SiteStatement:
    if held["version"] != VERSION:
        raise AuditError(
            "A site's statement is of another version.",
            "Install a newer craftsfl.",
        )
    site, head, study, time = held["site"], held["head"], held["study"], held["time"]
    if not (isinstance(site, str) and isinstance(head, str) and isinstance(study, str)):
        raise TypeError
    if type(time) is not int or not 0 <= time < LATEST_SECOND:
        raise TypeError
    found = bytes.fromhex(study), bytes.fromhex(head)
    if (len(found[0]), len(found[1])) != (32, _HEAD_BYTES):
        raise ValueError
    claims = (_number(held["epsilon"]), _number(held["lifetime"]))
    return SiteStatement(site, *found, _limits(held["limits"]), *claims, time)


def _limits(held: object) -> Limits:
    if not isinstance(held, dict) or held.keys() != _LIMITS.keys():
        raise ValueError
    for name in ("epsilon", "delta", "study_epsilon"):
        if not (isinstance(held[name], float) and held[name] > 0):
            raise TypeError
    order = held["rdp_order"]
    if order is not None and (type(order) is not int or not 2 <= order <= 1024):
        raise TypeError
    for name in ("gdp_filter", "masks_broken", "allow_no_privacy", "allow_partial"):
        if not isinstance(held[name], bool):
            raise TypeError
    return Limits(**held)


def _number(value: object) -> float:
    if value is None:
        return math.inf
    if not isinstance(value, float) or value < 0:
        raise TypeError
    return value


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

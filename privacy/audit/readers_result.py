"""What a readers' study showed of one adapter, signed by whoever ran it at the site.

    {"result": {...}, "signature": hex of 64 bytes}

as canonical JSON; the signature covers `_TAG | canonical JSON of the result`. The key, the pages
and the answers hold patients' tiles and captions and stay where they are: this is all that leaves.
"""

# Why: docs/adr/0063-atlas.md

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

from privacy.audit.statement import canonical
from privacy.errors import AuditError
from privacy.identity import Identity, verify
from privacy.strict_json import read_json

_TAG: Final = b"craftsfl/readers-result/v1\0"
_VERSION: Final = 1
_LARGEST: Final = 1 << 16
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FIGURES: Final = ("told_apart", "preferred")


@dataclass(frozen=True, slots=True)
class ReadersInterval:
    """A figure over all readers with its 95 % interval, of `judgements` answers."""

    value: float
    low: float
    high: float
    judgements: int


@dataclass(frozen=True, slots=True)
class SignedReaders:
    """Signed by `signer`: a name of the manifest's promotion.readers.

    `key`: SHA-256 (hex) of the sealed key, by which the readers' study is known. `adapter`: of the
    file that drew the pictures (SHA-256, hex); `study`: the digest of its study, as it claims.
    told_apart: share of right answers to "real or synthetic"; preferred: share that preferred the
    picture from after training to the base's own. None where that was not asked. `missing`:
    questions without an answer, of `questions`, which are all readers' together. `time` in whole
    Unix seconds.
    """

    signer: str
    key: str
    adapter: str
    study: str
    readers: int
    questions: int
    missing: int
    told_apart: ReadersInterval | None
    preferred: ReadersInterval | None
    time: int
    signature: bytes = bytes(64)

    def signed_with(self, identity: Identity) -> SignedReaders:
        """The same with the signature of `identity`."""
        return replace(self, signature=identity.sign(self._signed_bytes()))

    def is_signed_by(self, public: bytes) -> bool:
        """Whether the holder of this key (32 bytes) has signed it."""
        return verify(public, self.signature, self._signed_bytes())

    def encode(self) -> bytes:
        """The file."""
        said = json.loads(self._text())
        return canonical({"result": said, "signature": self.signature.hex()}).encode("ascii")

    @staticmethod
    def decode(data: bytes) -> SignedReaders:
        """The inverse; `AuditError` for anything else."""
        try:
            if len(data) > _LARGEST:
                raise ValueError
            held = read_json(data.decode("ascii"))
            if not isinstance(held, dict):
                raise TypeError
            found = _from(held["result"], bytes.fromhex(held["signature"]))
            same = found.encode() == data and found._is_whole()
        except (ValueError, KeyError, TypeError, AttributeError):
            same = False
        if not same:
            raise AuditError(
                "It is not a signed result of a readers' study.",
                "Make it again: craftsfl model reader-study score key.json ANSWERS --sign KEY",
            )
        return found

    def _is_whole(self) -> bool:
        numbers = (self.readers, self.questions, self.missing, self.time)
        return (
            all(_DIGEST.fullmatch(text) for text in (self.key, self.adapter, self.study))
            and isinstance(self.signer, str)
            and all(type(number) is int and number >= 0 for number in numbers)
            and len(self.signature) == 64
        )

    def _text(self) -> str:
        values = asdict(self)
        del values["signature"]
        return canonical({"version": _VERSION, **values})

    def _signed_bytes(self) -> bytes:
        return _TAG + self._text().encode("ascii")


def _from(said: Mapping[str, object], signature: bytes) -> SignedReaders:
    values = dict(said)
    if values.pop("version") != _VERSION:
        raise ValueError
    for name in _FIGURES:
        values[name] = _interval(values[name])
    return SignedReaders(**values, signature=signature)  # type: ignore[arg-type]


def _interval(said: object) -> ReadersInterval | None:
    if said is None:
        return None
    if not isinstance(said, dict):
        raise TypeError
    found = ReadersInterval(**said)
    ends = (found.low, found.value, found.high)
    if not all(isinstance(end, float) and math.isfinite(end) for end in ends):
        raise TypeError
    if type(found.judgements) is not int:
        raise TypeError
    return found

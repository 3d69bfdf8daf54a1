"""An auditor's signature of a verdict, and whether enough of those whom the manifest names signed.

    {"verdict": {...}, "signature": hex of 64 bytes}

as canonical JSON; the signature covers `_TAG | canonical JSON of the verdict`. It is of the
bundle's digest, so of every byte of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final, Self

from privacy.audit.statement import canonical
from privacy.errors import AuditError
from privacy.identity import Identity, verify
from privacy.strict_json import read_json
from privacy.study.manifest import Study

_TAG: Final = b"craftsfl/audit-verdict/v1\0"
_VERSION: Final = 1
_LARGEST: Final = 1 << 16
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SignedVerdict:
    """That `auditor` has verified the bundle with this SHA-256 (hex), of `study` (digest, hex).

    `adapter`: SHA-256 (hex) of the adapter that the bundle says was released, "" for none.
    `not_recomputed`: how many things the verdict names as not worked out again. `time` in whole
    Unix seconds. There is no signature of a bundle that does not hold.
    """

    auditor: str
    bundle: str
    study: str
    run: int
    adapter: str
    not_recomputed: int
    time: int
    signature: bytes = bytes(64)

    @classmethod
    def signed(cls, unsigned: SignedVerdict, identity: Identity) -> SignedVerdict:
        """With the signature of `identity`."""
        values = asdict(unsigned) | {"signature": identity.sign(unsigned._signed_bytes())}
        return SignedVerdict(**values)

    def is_signed_by(self, public: bytes) -> bool:
        """Whether the holder of this key (32 bytes) has signed it."""
        return verify(public, self.signature, self._signed_bytes())

    def encode(self) -> bytes:
        """The file."""
        said = json.loads(self._text())
        return canonical({"verdict": said, "signature": self.signature.hex()}).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse; `AuditError` for anything else."""
        try:
            if len(data) > _LARGEST:
                raise ValueError
            held = read_json(data.decode("ascii"))
            if not isinstance(held, dict) or held["verdict"].pop("version") != _VERSION:
                raise ValueError
            found = cls(**held["verdict"], signature=bytes.fromhex(held["signature"]))
            same = found.encode() == data and found._is_whole()
        except (ValueError, KeyError, TypeError, AttributeError):
            same = False
        if not same:
            raise AuditError(
                "It is not a signed verdict.", "Make it again: craftsfl audit sign BUNDLE"
            )
        return found

    def _is_whole(self) -> bool:
        texts = all(_DIGEST.fullmatch(text) for text in (self.bundle, self.study))
        texts = texts and bool(self.adapter == "" or _DIGEST.fullmatch(self.adapter))
        numbers = (self.run, self.not_recomputed, self.time)
        return (
            texts
            and isinstance(self.auditor, str)
            and all(type(n) is int and n >= 0 for n in numbers)
        )

    def _text(self) -> str:
        values = asdict(self)
        del values["signature"]
        return canonical({"version": _VERSION, **values})

    def _signed_bytes(self) -> bytes:
        return _TAG + self._text().encode("ascii")


def signed_off(study: Study, digest: str, signatures: Iterable[SignedVerdict]) -> frozenset[str]:
    """The names of the manifest's auditors who have signed for `digest` (SHA-256, hex).

    It is a bundle's, or an adapter's: of that, any bundle will do that says how it came about.

    Whatever is of another bundle or study, of a stranger, or not signed, does not count; an auditor
    counts once. Empty for a study that names no auditors.
    """
    keys = {} if study.auditors is None else {one.name: one.key for one in study.auditors.keys}
    return frozenset(
        one.auditor
        for one in signatures
        if one.auditor in keys
        and one.study == study.digest().hex()
        and digest
        and digest in (one.bundle, one.adapter)
        and one.is_signed_by(bytes.fromhex(keys[one.auditor]))
    )

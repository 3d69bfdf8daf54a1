"""`left-out.json`: SHA-256 of masked lanes that are not in a bundle, by site and label, in hex."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from privacy.audit.statement import canonical
from privacy.errors import AuditError
from privacy.strict_json import read_json
from privacy.wire.bodies import DIGEST_BYTES

_LARGEST: Final = 256 << 20  # of 100 sites and 10,000 attempts it is 140 MB


def encode_left_out(vectors: Mapping[str, Mapping[bytes, bytes]]) -> bytes:
    """The file."""
    return canonical(
        {
            site: {label.hex(): digest.hex() for label, digest in sorted(of.items())}
            for site, of in vectors.items()
        }
    ).encode("ascii")


def decode_left_out(data: bytes) -> dict[str, dict[bytes, bytes]]:
    """The inverse; `AuditError` or ValueError for anything else."""
    if len(data) > _LARGEST:
        raise AuditError(f"It has more than {_LARGEST} bytes.")
    held = read_json(data.decode("ascii"))
    if not isinstance(held, dict) or not held or not all(held.values()):
        raise AuditError("It is not a table, or has an empty one.")
    found = {}
    for site, rows in held.items():
        if not isinstance(rows, dict) or not all(isinstance(row, str) for row in rows.values()):
            raise AuditError("It is not a table of digests.")
        pairs = ((bytes.fromhex(label), bytes.fromhex(one)) for label, one in rows.items())
        found[site] = dict(_checked(pairs))
    if encode_left_out(found) != data:
        raise AuditError("It is not in its canonical form.")
    return found


def _checked(pairs: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    for label, digest in pairs:
        if len(label) != DIGEST_BYTES or len(digest) != DIGEST_BYTES:
            raise AuditError("A digest does not have 32 bytes.")
        yield label, digest

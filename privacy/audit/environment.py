"""`environment.json`: which software the coordinator says that it has. Its word, unsigned.

    {"code": SHA-256 of our own modules, "craftsfl": version, "packages": {name: version},
     "python": version}

as canonical JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from privacy.audit.statement import canonical
from privacy.errors import AuditError
from privacy.strict_json import read_json

_LARGEST: Final = 1 << 16
_NAMES: Final = ("code", "craftsfl", "python")


def encode_environment(said: Mapping[str, object]) -> bytes:
    """The file."""
    return canonical(said).encode("ascii")


def read_environment(data: bytes) -> dict[str, str]:
    """All versions by name, our own first; `AuditError` for anything that is no such file."""
    try:
        if len(data) > _LARGEST:
            raise ValueError
        held = read_json(data.decode("ascii"))
        if not isinstance(held, dict) or held.keys() != {*_NAMES, "packages"}:
            raise ValueError
        packages = held["packages"]
        if not isinstance(packages, dict) or packages.keys() & {*_NAMES}:
            raise ValueError
        found = {name: held[name] for name in ("craftsfl", "code", "python")} | packages
        if not all(isinstance(value, str) for value in found.values()):
            raise ValueError
        same = encode_environment(held) == data
    except ValueError:
        same = False
    if not same:
        raise AuditError("It does not say which software somebody has.")
    return found

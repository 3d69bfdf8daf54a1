"""The key with which an operator's own processes show themselves to their SuperLink.

It is derived from `superexec.secret`, which only the operator's user can read, and is sent as a
header over TLS to a server whose certificate has been checked. It never stands in a file, an
environment variable or a command line of its own.
"""

# Why: docs/adr/0036-the-operators-plane.md

from __future__ import annotations

import hashlib
import hmac
import shlex
from pathlib import Path
from typing import Final

from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from privacy.files import hint_for, read_secret

SHORTEST_SECRET: Final = 32  # bytes
_LONGEST_SECRET: Final = 4096
_PURPOSE: Final = b"craftsfl operator key 1"


def operator_key(secret: bytes) -> str:
    """The key that belongs to `secret`: 64 hexadecimal digits."""
    return hmac.new(secret, _PURPOSE, hashlib.sha256).hexdigest()


def read_operator_key(secret: Path) -> str:
    """The key of the secret in a file. Raises `DeploymentError` if others could read the file."""
    return operator_key(read_superexec_secret(secret))


def read_superexec_secret(path: Path) -> bytes:
    """The bytes of `superexec.secret`; raises `DeploymentError` if it cannot be kept a secret."""
    try:
        secret = read_secret(path, _LONGEST_SECRET)
    except OSError as error:
        raise DeploymentError(
            f"The secret {path} cannot be used: {error.strerror}.",
            hint_for(error, f"Make one: {_made_by(path)}"),
            id=ErrorId.SECRET_UNUSABLE,
        ) from None
    if len(secret) < SHORTEST_SECRET:
        raise DeploymentError(
            f"The secret {path} has {len(secret)} bytes; {SHORTEST_SECRET} are needed.",
            f"Make a new one: {_made_by(path)}",
            id=ErrorId.SECRET_UNUSABLE,
        )
    return secret


def _made_by(path: Path) -> str:
    """What makes a secret in that place; it is typed in whatever folder."""
    return f"(umask 077; openssl rand -hex 32 > {shlex.quote(str(path))})"

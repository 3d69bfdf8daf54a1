"""The passphrase of an identity key: from the environment, or asked for."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from privacy.errors import ConfigError
from privacy.identity import Identity, load_identity

PASSPHRASE = "CRAFTSFL_IDENTITY_PASSPHRASE"  # in the environment, where nobody can be asked


def new_passphrase() -> bytes:
    """The passphrase of a key that is about to be made, asked for twice."""
    given = os.environ.get(PASSPHRASE, "")
    if not given:
        given = typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True)
    return str(given).encode()


def identity_in(key: Path) -> Identity:
    """The identity in the file `key`; the passphrase is asked for where it has one."""
    passphrase = os.environ.get(PASSPHRASE, "")
    if not passphrase and b"ENCRYPTED" in _head(key):
        passphrase = str(typer.prompt("Passphrase of the identity key", hide_input=True))
    return load_identity(key, passphrase.encode() or None)


def _head(key: Path) -> bytes:
    try:
        with key.open("rb") as stream:
            return stream.readline()
    except OSError as error:
        raise ConfigError(f"{key} cannot be read: {error.strerror}.", "Check the path.") from None

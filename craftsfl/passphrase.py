"""The passphrase of an identity key: from the environment, or from a prompt."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from privacy.errors import ConfigError
from privacy.identity import Identity, load_identity

PASSPHRASE = "CRAFTSFL_IDENTITY_PASSPHRASE"  # environment variable, for when nobody can be prompted


def new_passphrase() -> bytes:
    """The passphrase for a new key; the prompt asks for it twice."""
    given = os.environ.get(PASSPHRASE, "")
    if not given:
        given = typer.prompt("New passphrase", hide_input=True, confirmation_prompt=True)
    return str(given).encode()


def identity_in(key: Path) -> Identity:
    """The identity in the file `key`; prompts for a passphrase if the key is encrypted."""
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

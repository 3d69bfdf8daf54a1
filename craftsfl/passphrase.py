"""The passphrase of an identity key: from the environment, or from a prompt."""

from __future__ import annotations

import getpass
import os
import warnings
from pathlib import Path

import typer

from privacy.errors import ConfigError
from privacy.identity import LOST_KEY, Identity, load_identity

PASSPHRASE = "CRAFTSFL_IDENTITY_PASSPHRASE"  # environment variable, for when nobody can be prompted


def new_passphrase() -> bytes:
    """The passphrase for a new key; the prompt asks for it twice."""
    given = os.environ.get(PASSPHRASE, "")
    if not given:
        given = _asked("New passphrase", twice=True)
    return given.encode()


def identity_in(key: Path) -> Identity:
    """The identity in the file `key`; prompts for a passphrase if the key is encrypted."""
    passphrase = os.environ.get(PASSPHRASE, "")
    if not passphrase and b"ENCRYPTED" in _head(key):
        passphrase = _asked("Passphrase of the identity key")
    return load_identity(key, passphrase.encode() or None)


def _asked(question: str, *, twice: bool = False) -> str:
    """What is typed, unseen; raises `ConfigError` where it could be seen, or nobody can type."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            return str(typer.prompt(question, hide_input=True, confirmation_prompt=twice))
    except getpass.GetPassWarning:
        raise ConfigError(
            "There is no terminal on which a passphrase could be typed unseen.",
            f"Run this in a terminal, or set {PASSPHRASE} in the environment.",
        ) from None


def _head(key: Path) -> bytes:
    try:
        with key.open("rb") as stream:
            return stream.readline()
    except OSError as error:
        raise ConfigError(f"{key} cannot be read: {error.strerror}.", LOST_KEY) from None

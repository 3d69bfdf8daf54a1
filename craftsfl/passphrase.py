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
_INSTEAD = f", or set {PASSPHRASE} in the environment"


def new_passphrase() -> bytes:
    """The passphrase for a new key; the prompt asks for it twice."""
    given = os.environ.get(PASSPHRASE, "")
    if not given:
        given = asked_unseen("New passphrase", _INSTEAD, twice=True)
    return given.encode()


def identity_in(key: Path) -> Identity:
    """The identity in the file `key`; prompts for a passphrase if the key is encrypted."""
    passphrase = os.environ.get(PASSPHRASE, "")
    if not passphrase and b"ENCRYPTED" in _head(key):
        passphrase = asked_unseen("Passphrase of the identity key", _INSTEAD)
    return load_identity(key, passphrase.encode() or None)


def check_study_key(key: Path) -> None:
    """Raise `ConfigError` unless `key`, of an auditor or of a judge of readers, is a file."""
    if not key.is_file():
        raise ConfigError(
            f"{key} is not a file.",
            "Name the key that you made before the study: craftsfl audit key -o KEYFILE. Only the "
            "one whose public half stands in study.toml counts.",
        )


def asked_unseen(question: str, instead: str, *, twice: bool = False) -> str:
    """What is typed, unseen; raises `ConfigError` where it could be seen, or nobody can type.

    `instead`: what else there is to do, after "Run this in a terminal".
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            return str(typer.prompt(question, hide_input=True, confirmation_prompt=twice))
    except getpass.GetPassWarning:
        raise ConfigError(
            f"There is no terminal on which this could be typed unseen: {question}.",
            f"Run this in a terminal{instead}.",
        ) from None


def _head(key: Path) -> bytes:
    try:
        with key.open("rb") as stream:
            return stream.readline()
    except OSError as error:
        raise ConfigError(f"{key} cannot be read: {error.strerror}.", LOST_KEY) from None

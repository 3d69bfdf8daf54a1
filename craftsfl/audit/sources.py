"""Where a bundle comes from: a file, or the sample that is part of the installation."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import Final

from craftsfl.audit.verdict import read_bundle
from privacy.errors import AuditError

SAMPLE: Final = "sample"
_FILE: Final = "sample.zip"


def bundle_bytes(path: Path) -> bytes:
    """The bytes of a bundle; of the sample for the word "sample", unless there is such a file.

    Raises `AuditError` for what cannot be read.
    """
    if str(path) == SAMPLE and not path.exists():
        return sample_bytes()
    if path.is_dir():
        raise AuditError(
            f"{path} is a folder, and a bundle is one file.",
            "At the coordinator: craftsfl audit export consortium.toml NAME.zip ... -o bundle.zip. "
            "A simulation (craftsfl simulate) leaves none: anybody can make its keys, so that its "
            "signatures would prove nothing.",
        )
    try:
        return read_bundle(path)
    except OSError as error:
        raise AuditError(
            f"{path} cannot be read: {error.strerror}.", "Check the path of the bundle."
        ) from None


def digest_told(told: str | None) -> str | None:
    """SHA-256 in hex of the file `told`, where there is one of that name; else what was told."""
    if told is None or not Path(told).is_file():
        return told
    try:
        with Path(told).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AuditError(f"{told} cannot be read: {error.strerror}.", "Check the path.") from None


def sample_bytes() -> bytes:
    """The sample: a small study of three simulated hospitals, run by the real machines."""
    try:
        return (resources.files("craftsfl.audit") / _FILE).read_bytes()
    except OSError:
        raise AuditError(
            "The sample does not come with this installation.", "Name a bundle's file."
        ) from None

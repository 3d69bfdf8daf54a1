"""Where a bundle comes from: a file, or the sample that is part of the installation."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

from craftsfl.audit.champion import GivenChampion
from craftsfl.audit.verdict import read_bundle
from privacy.audit.checks.membership import digest_of_file
from privacy.errors import AuditError

SAMPLE: Final = "sample"
_FILE: Final = "sample.zip"
_LARGEST_ADAPTER: Final = 1 << 30


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


def champion_told(told: str | None) -> GivenChampion | None:
    """The file `told`, where there is one of that name; else what was told, as its digest.

    Raises `AuditError` for a file that cannot be read, `ConfigError` for what is no digest either.
    """
    if told is None:
        return None
    if not Path(told).is_file():
        return GivenChampion(digest_of_file(told, "--champion"))
    try:
        with Path(told).open("rb") as file:
            data = file.read(_LARGEST_ADAPTER + 1)
    except OSError as error:
        raise AuditError(f"{told} cannot be read: {error.strerror}.", "Check the path.") from None
    if len(data) > _LARGEST_ADAPTER:
        raise AuditError(f"{told} has more than {_LARGEST_ADAPTER} bytes.", "It is no adapter.")
    return GivenChampion.of_file(data)


def sample_bytes() -> bytes:
    """The sample: a small study of three simulated hospitals, run by the real machines."""
    try:
        return (resources.files("craftsfl.audit") / _FILE).read_bytes()
    except OSError:
        raise AuditError(
            "The sample does not come with this installation.", "Name a bundle's file."
        ) from None

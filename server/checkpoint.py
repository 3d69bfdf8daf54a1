"""The adapter and the strategy's state after each round: files whose digests are in the store."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError, FederationError
from privacy.files import told_if_unwritable, write_public
from privacy.wire.codec import Vector

_ADAPTER = "adapter"
_STATE = "strategy."


class AdapterCheckpoint(NamedTuple):
    """An adapter, float32 [P], and what its strategy has to remember."""

    adapter: Vector
    state: dict[str, NDArray[np.float64]]


def save_checkpoint(
    path: Path, adapter: Vector, state: Mapping[str, NDArray[np.float64]]
) -> tuple[str, str]:
    """Write both to `path`, durably and all or nothing; returns (path, sha256 in hex)."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {_STATE + name: values for name, values in state.items()}
    np.savez(buffer, allow_pickle=False, **{_ADAPTER: adapter, **arrays})
    data = buffer.getvalue()
    write_durably(path, data)
    return str(path), hashlib.sha256(data).hexdigest()


def load_checkpoint(path: Path, sha256: str) -> AdapterCheckpoint:
    """Read what `save_checkpoint` wrote. Raises `FederationError` if it is missing or altered."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unusable(path, error.strerror or "cannot be read") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _unusable(path, "its contents have changed")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        state = {
            name.removeprefix(_STATE): np.asarray(arrays[name], dtype=np.float64)
            for name in arrays
            if name.startswith(_STATE)
        }
        return AdapterCheckpoint(np.asarray(arrays[_ADAPTER], dtype=np.float32), state)


def write_durably(path: Path, data: bytes) -> None:
    """Replace the contents of `path` by `data`: entirely or not at all, even across a power cut.

    Raises `DeploymentError` if the disk is full or the folder is not writable.
    """
    hint = "Free some space or correct the permissions, then: craftsfl rounds start consortium.toml"
    with told_if_unwritable(path, hint, DeploymentError, id=ErrorId.STATE_NOT_WRITABLE):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_public(path, data)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unusable(path: Path, why: str) -> FederationError:
    return FederationError(
        f"The stored adapter {path} cannot be used: {why}.",
        "Restore the file from a backup, or start a new run: craftsfl rounds start consortium.toml",
        id=ErrorId.ADAPTER_UNUSABLE,
    )

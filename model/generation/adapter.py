"""Put an adapter's file on a pipeline, after checking that it belongs there."""

from __future__ import annotations

import hashlib
from pathlib import Path

from model.adapter_file import SavedAdapter, load_adapter
from model.adapters import attach, detach, write_vector
from model.base import Pipeline
from privacy.errors import ModelError

_HINT = "Name the base that the adapter was trained on (--base), or another adapter."


def put_adapter(pipeline: Pipeline, path: Path, base: str | None = None) -> SavedAdapter:
    """Put the adapter on the pipeline, where it stays: exactly what was read and checked.

    The file is not opened a second time, so diffusers' own reader never sees it. See
    `check_adapter`.
    """
    saved = check_adapter(pipeline, path, base)
    write_vector(pipeline.unet, attach(pipeline.unet, saved.adapter), saved.vector)
    return saved


def check_adapter(pipeline: Pipeline, path: Path, base: str | None = None) -> SavedAdapter:
    """Read the adapter; the pipeline, which must not carry one, stays as it is.

    `base`: the pipeline's digest, compared with the one in the adapter's file, if it names one.
    Raises `ModelError` for a file that is not an adapter, or is one of another base.
    """
    saved = load_adapter(path)
    _check_base(path, saved, base)
    _check_layout(path, saved, pipeline)
    return saved


def file_digest(path: Path) -> str:
    """ "sha256:" and the SHA-256 of a file. Raises `ModelError`."""
    try:
        with path.open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None


def _check_base(path: Path, saved: SavedAdapter, base: str | None) -> None:
    if base is not None and saved.origin is not None and saved.origin.base != base:
        raise ModelError(
            f"{path.name} was trained on another base, {saved.origin.base}; this one is {base}.",
            _HINT,
        )


def _check_layout(path: Path, saved: SavedAdapter, pipeline: Pipeline) -> None:
    """Refuse an adapter whose layers are not this base's, before anything is attached."""
    found = saved.layout.fingerprint().hex()
    try:
        wanted = attach(pipeline.unet, saved.adapter).fingerprint().hex()
    except ModelError as error:
        raise ModelError(
            f"{path.name} was trained on another base: {error.message}", _HINT
        ) from None
    finally:
        detach(pipeline.unet)
    if wanted != found:
        raise ModelError(
            f"{path.name} was trained on another base: its layout has the fingerprint "
            f"{found[:16]}…, this base's would have {wanted[:16]}….",
            _HINT,
        )

"""Write what stage one made as an ordinary folder of a diffusers pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from model.base import Pipeline, save_base
from model.digest import INDEX
from privacy.errors import ModelError


def export_base(pipeline: Pipeline, out: Path, workspace: Path, *, half: bool) -> None:
    """Write the pipeline's parts to `out`, in half or single precision.

    The index comes last, so that the folder is a complete base or none. Raises `ModelError` if it
    cannot be written; calling again rewrites it.
    """
    fresh = workspace / "export"
    shutil.rmtree(fresh, ignore_errors=True)
    for part in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        part.cpu()
        part.half() if half else part.float()
    try:
        save_base(pipeline, fresh)
        for config in fresh.rglob("*.json"):
            _forget_origin(config)
        (out / INDEX).unlink(missing_ok=True)
        for path in sorted(fresh.iterdir(), key=lambda path: path.name == INDEX):
            if (out / path.name).is_dir():
                shutil.rmtree(out / path.name)
            path.replace(out / path.name)
    except OSError as error:
        raise ModelError(
            f"The base cannot be written to {out}: {error.strerror or error}.",
            "Free some disk space and call again: the training itself is done.",
        ) from None


def _forget_origin(config: Path) -> None:
    """Remove the path that the part was loaded from: it is private, and part of the digest."""
    try:
        values = json.loads(config.read_text("utf-8"))
    except ValueError:
        return
    if isinstance(values, dict) and values.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", "utf-8")

"""Which run a folder of checkpoints belongs to: no run continues from another one's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from model.digest import INDEX
from privacy.errors import ModelError
from privacy.files import write_public

WORKSPACE: Final = ".checkpoints"
_RECORD: Final = "run.json"


def claim(folder: Path, run: Mapping[str, object]) -> None:
    """Record in `folder` what `run` is; `ModelError` if it holds another run.

    `run` is plain JSON: the settings that determine the outcome, and the digests of base and data.
    """
    record = folder / _RECORD
    if (folder.parent / INDEX).exists() and not record.exists():
        raise ModelError(f"{folder.parent} already holds a base.", "Choose another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            write_public(record, (json.dumps(run, indent=1) + "\n").encode("utf-8"))
            return
        before = json.loads(record.read_text("utf-8"))
    except OSError as error:
        raise ModelError(f"{folder} cannot be used: {error.strerror}.", "Choose another.") from None
    except ValueError:
        raise ModelError(f"{record} is damaged.", f"Delete {folder} to start again.") from None
    changed = sorted(key for key in {*before, *run} if before.get(key) != run.get(key))
    if changed:
        raise ModelError(
            f"{folder.parent} holds a run with other values of {', '.join(changed)}.",
            "Continue with the same values, or choose another folder.",
        )

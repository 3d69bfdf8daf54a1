"""What an adapter's numbers mean, without loading the model: as it was worked out the last time.

Importing torch, diffusers and peft takes a ServerApp seconds before it can begin a round; the
layout follows from the base's configuration, the study's adapter and the code of these libraries
alone, and its file is named by a digest of all of them. The sites say theirs at the greeting, and
one that has another is refused. The folder is the coordinator's user's own.
"""

# Why: docs/adr/0051-what-a-start-need-not-repeat.md

from __future__ import annotations

import hashlib
import json
import logging
from importlib import metadata
from pathlib import Path
from typing import Final

from model.importing import quick_imports
from model.layout import Layout
from model.layout_text import decode_layout, encode_layout
from privacy.errors import WireError
from privacy.files import read_private, write_private
from privacy.study.manifest import Study

_LARGEST: Final = 16 << 20  # bytes
_TAG: Final = b"craftsfl/kept-layout/v1\0"
_LIBRARIES: Final = ("torch", "diffusers", "peft")
_OWN: Final = ("adapters.py", "layout.py", "layout_text.py")  # of `model`
_MODEL: Final = Path(__file__).resolve().parents[1] / "model"
_log = logging.getLogger("craftsfl.server")


def study_layout(study: Study, base: Path, folder: Path) -> Layout:
    """The layout of the study's adapter on its base, whose files in `base` have been compared.

    From `folder`, or by loading the model's shapes, and then kept there. Raises `ModelError`.
    """
    file = folder / f"{_digest(study)}.json"
    try:
        return decode_layout(read_private(file, _LARGEST))
    except (OSError, WireError):
        pass  # the first start, or a file that is not to be used
    with quick_imports():
        from model.adapters import layout_of

        layout = layout_of(base, study.adapter)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(file, encode_layout(layout))
    except OSError as error:
        _log.warning("%s cannot be written: %s.", file, error.strerror)
    return layout


def _digest(study: Study) -> str:
    """Of everything on which the layout depends."""
    versions = [f"{name} {metadata.version(name)}" for name in _LIBRARIES]
    text = json.dumps([study.base.digest, study.adapter.model_dump(mode="json"), versions])
    hashed = hashlib.sha256(_TAG + text.encode())
    for name in _OWN:
        hashed.update((_MODEL / name).read_bytes())
    return hashed.hexdigest()

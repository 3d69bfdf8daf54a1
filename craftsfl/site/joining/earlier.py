"""What `craftsfl site join` keeps of a study when the next one takes its place."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from privacy.errors import ConfigError
from privacy.study.manifest import load_study

_EARLIER: Final = "earlier"  # a folder beside the study file, with one folder for each study


def put_away(study: Path, files: Sequence[Path]) -> None:
    """Copy `files` to the folder of the study in the file `study`, if there is one yet."""
    if not study.exists():
        return
    folder = study.parent / _EARLIER / load_study(study).digest().hex()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file.exists():
            shutil.copyfile(file, folder / file.name)


def earlier_names(study: Path) -> Mapping[bytes, str]:
    """Names of the studies whose files were put away, by their digests.

    `study`: the present study's file. A file that is no study any more is passed over: the ledger,
    not this folder, says what was charged.
    """
    found = {}
    for file in sorted((study.parent / _EARLIER).glob(f"*/{study.name}")):
        try:
            kept = load_study(file)
        except ConfigError:
            continue
        found[kept.digest()] = kept.name
    return found

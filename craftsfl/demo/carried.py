"""What a demo takes over from the one before it: work that is the same again, and costs minutes.

Encoded tiles, what a device was found to be, layouts of adapters. Everything that takes such a file
checks that it is of the same pictures, code and base, so a demo with other data finds nothing. The
files are moved, not copied: an earlier demo's folder keeps its results.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from client.agent.state import StateFolder
from craftsfl.demo.workspace import Workspace
from server.settings import ConsortiumSettings, load_consortium

STATE: Final = "state"  # as in `craftsfl.demo.templates`


def carry_over(earlier: Path | None, workspace: Workspace) -> None:
    """Move what can be used again from the folder of an `earlier` demo; losing it costs time."""
    if earlier is None:
        return
    for hospital in workspace.hospitals:
        before = StateFolder(earlier / "hospitals" / hospital.name / STATE)
        now = StateFolder(hospital.folder / STATE)
        _move([(before.cache, now.cache), (before.proof, now.proof)])
    own = load_consortium(workspace.consortium)
    before_own = own.model_copy(update={"state": earlier / "coordinator" / STATE})
    _move(zip(_of_coordinator(before_own), _of_coordinator(own), strict=True))


def _of_coordinator(settings: ConsortiumSettings) -> tuple[Path, ...]:
    return settings.layouts_folder(), settings.quality_cache()


def _move(pairs: Iterable[tuple[Path, Path]]) -> None:
    for before, now in pairs:
        with suppress(OSError):
            if before.exists():
                now.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                shutil.move(before, now)

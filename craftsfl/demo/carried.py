"""What a demo takes over from the one before it: work that is the same again, and costs minutes.

Encoded tiles, what a device was found to be, layouts of adapters. Everything that takes such a file
checks that it is of the same pictures, code and base, so a demo with other data finds nothing. The
files are moved, not copied: an earlier demo's folder keeps its results.

Tiles follow once the new agent has made its ledger: an agent that finds encoded tiles and no ledger
rightly takes that for a loss, and does not start.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final

from client.agent.state import StateFolder
from craftsfl.demo.workspace import Workspace
from server.settings import ConsortiumSettings, load_consortium

STATE: Final = "state"  # as in `craftsfl.demo.templates`
_AGENT_SECONDS: Final = 120.0  # until the new agents have their ledgers
_LOOK_SECONDS: Final = 0.05


def carry_over(earlier: Path | None, workspace: Workspace) -> None:
    """Move what can be used again from the folder of an `earlier` demo; losing it costs time.

    Returns at once; the tiles are moved when the hospitals' agents have started.
    """
    if earlier is None:
        return
    states = [
        (StateFolder(earlier / "hospitals" / each.name / STATE), StateFolder(each.folder / STATE))
        for each in workspace.hospitals
    ]
    _move((before.proof, now.proof) for before, now in states)
    Thread(target=_move_tiles, args=(states,), daemon=True).start()
    own = load_consortium(workspace.consortium)
    before_own = own.model_copy(update={"state": earlier / "coordinator" / STATE})
    _move(zip(_of_coordinator(before_own), _of_coordinator(own), strict=True))


def _move_tiles(states: Sequence[tuple[StateFolder, StateFolder]]) -> None:
    waiting, end = list(states), time.monotonic() + _AGENT_SECONDS
    while waiting and time.monotonic() < end:
        started = [pair for pair in waiting if pair[1].ledger.exists()]
        _move((before.cache, now.cache) for before, now in started)
        waiting = [pair for pair in waiting if pair not in started]
        time.sleep(_LOOK_SECONDS)


def _of_coordinator(settings: ConsortiumSettings) -> tuple[Path, ...]:
    return settings.layouts_folder(), settings.quality_cache()


def _move(pairs: Iterable[tuple[Path, Path]]) -> None:
    for before, now in pairs:
        with suppress(OSError):
            if before.exists():
                now.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                before.rename(now)  # on one disk: both are in the demo's folder

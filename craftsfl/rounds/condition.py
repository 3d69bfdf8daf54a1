"""How a run really is: what its ServerApps wrote, and whether one of them is alive."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum

from craftsfl.processes.stopped import ANOTHER_ONE, stands_still, stopped_words
from server.life import Serving, is_held, last_serving, now_serving
from server.settings import ConsortiumSettings
from server.status import RunStatus
from server.tables import ENDED, RunState, Wish

_STARTING_SECONDS = 60.0  # a ServerApp's process begins within these, or has failed to


class RunCondition(StrEnum):
    """In one word."""

    STARTING = "starting"
    WAITING = "waiting"  # for sites, or for what else `RunStatus.awaited` says
    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"  # no ServerApp is alive
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class RunsLife:
    """How a run is, in one word and in a sentence.

    `alive`: whether a ServerApp serves it now; `stuck`: whether that one stands still.
    """

    condition: RunCondition
    words: str
    alive: bool
    stuck: bool = False


def condition_of(settings: ConsortiumSettings, status: RunStatus) -> RunsLife:
    """How the run of `status` is at this moment; to be asked on the coordinator's machine."""
    if status.state in ENDED:
        return RunsLife(RunCondition(status.state.value), status.message, alive=False)
    serving = now_serving(settings.lock_file())
    if serving is not None:
        return _alive(status, serving)
    begun = last_serving(settings.lock_file())
    since = status.started if status.flower_since is None else status.flower_since
    kept = is_held(settings.keeper_file())
    if kept and status.awaited:
        return _dead(status, kept)
    if time.time() - since < _STARTING_SECONDS and (
        begun is None or begun.flower_run != status.flower_run
    ):
        return RunsLife(RunCondition.STARTING, "Its ServerApp is being started.", alive=False)
    return _dead(status, kept)


def _alive(status: RunStatus, serving: Serving) -> RunsLife:
    wish = _WISHES.get(status.wish, "")
    if stands_still(serving.pid):
        words = f"Its ServerApp, {stopped_words(serving.pid, ANOTHER_ONE)}"
        return RunsLife(RunCondition.RUNNING, words, alive=True, stuck=True)
    if status.awaited:
        words = f"It waits for {status.awaited.removesuffix('.')}. {wish}".strip()
        return RunsLife(RunCondition.WAITING, words, alive=True)
    if status.state is RunState.PAUSED:
        paused = status.wish is Wish.PAUSE
        words = "Go on with it: craftsfl rounds resume" if paused else wish
        return RunsLife(RunCondition.PAUSED, words, alive=True)
    if status.state is RunState.WAITING:
        return RunsLife(RunCondition.WAITING, f"Its sites are joining. {wish}".strip(), alive=True)
    return RunsLife(RunCondition(status.state.value), wish, alive=True)


_WISHES = {
    Wish.PAUSE: "It will pause after the attempt under way.",
    Wish.STOP: "It will stop after the attempt under way.",
    Wish.STOP_NOW: "It is about to stop.",
}


def _dead(status: RunStatus, kept: bool) -> RunsLife:
    if kept and status.awaited:  # as the keeper says; a dead ServerApp waits for nobody
        next_step = f"It cannot go on: {status.awaited}"
    elif kept:
        next_step = "craftsfl rounds serve is running and starts another one."
    else:
        next_step = "Nobody starts another one: is craftsfl rounds serve running?"
    cause = f" ({status.last_words.removesuffix('.')})" if status.last_words else ""
    pause = " It is to be paused." if status.wish is Wish.PAUSE else ""
    words = f"Its ServerApp has ended{cause}. {next_step}{pause}"
    return RunsLife(RunCondition.INTERRUPTED, words, alive=False)

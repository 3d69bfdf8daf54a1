"""`craftsfl rounds track`: log to MLflow what it missed while it was away."""

from __future__ import annotations

from pathlib import Path

from craftsfl.terminal import say
from privacy.errors import CraftsflError
from server.catch_up import CaughtUp, track_missing
from server.settings import load_consortium


def track_runs(settings: Path) -> None:
    """Log what MLflow lacks of the study's ended runs, and say what became of each.

    Raises `CraftsflError`: the first one, once everything else is logged.
    """
    first: CraftsflError | None = None
    count = 0
    for caught in track_missing(load_consortium(settings)):
        count += 1
        say(_line(caught))
        first = first or caught.error
    if not count:
        say("MLflow has all ended runs of this study.")
    if first is not None:
        raise first


def _line(caught: CaughtUp) -> str:
    run, tracked = caught.status.run, caught.tracked
    if tracked is None:
        return f"Run {run} could not be logged completely: {caught.error}"
    version = f", model version {tracked.version}" if tracked.version else ""
    return f"Run {run} ({caught.status.state}) is logged: MLflow run {tracked.run}{version}."

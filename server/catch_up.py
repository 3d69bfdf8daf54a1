"""Logging to MLflow what it missed: at the next run's start, and on `craftsfl rounds track`.

Everything comes from the round state and from the files that a run released, so it does not matter
when it happens or how often.
"""

# Why: docs/adr/0037-mlflow-is-never-waited-for.md

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from privacy.errors import CraftsflError
from privacy.study.manifest import Study, load_study
from server.settings import ConsortiumSettings
from server.status import RunStatus
from server.status_reader import read_ended
from server.tables import RunState
from server.tracking import Tracked, Tracking, TrackingPlace


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What became of an ended run that MLflow lacked: where it is now, or what was in the way."""

    status: RunStatus
    tracked: Tracked | None
    error: CraftsflError | None = None


def place_of(settings: ConsortiumSettings) -> TrackingPlace:
    """Where a consortium's runs are tracked."""
    return TrackingPlace(settings.mlflow_uri(), settings.artifacts_folder(), settings.study)


def tracking_of(settings: ConsortiumSettings, study: Study) -> Tracking:
    """The study's experiment, with what it lacked of earlier runs as far as that can be logged.

    Raises `DeploymentError` if MLflow cannot be used.
    """
    tracking = Tracking(place_of(settings), study)
    list(catch_up(tracking, read_ended(settings.database_url(), study.digest().hex())))
    return tracking


def track_missing(settings: ConsortiumSettings) -> Iterator[CaughtUp]:
    """Log what MLflow lacks of the ended runs of `settings`' study, a run at a time.

    Raises `CraftsflError` if the study's file or MLflow cannot be used.
    """
    study = load_study(settings.study)
    ended = read_ended(settings.database_url(), study.digest().hex())
    yield from catch_up(Tracking(place_of(settings), study), ended)


def catch_up(tracking: Tracking, ended: Iterable[RunStatus]) -> Iterator[CaughtUp]:
    """Log those that MLflow lacks, the oldest first, so that the newest becomes the challenger."""
    for status in tracking.incomplete(ended):
        try:
            yield CaughtUp(status, _complete(tracking, status))
        except CraftsflError as error:
            yield CaughtUp(status, None, error)


def _complete(tracking: Tracking, status: RunStatus) -> Tracked:
    if status.state is RunState.FINISHED:
        return tracking.publish(status)
    return Tracked(tracking.failed(status), None)

"""MLflow: experiment = study, run = federation run, rounds as steps. A view, never evidence.

Everything is derived from the round state and can be logged again at any time, whatever part of it
arrived before: a run is found by its number and its study's digest, no round is logged twice, and
what is complete is marked so. What is logged: `server.figures`, `server.model_card`.
"""

# Why: docs/adr/0037-mlflow-is-never-waited-for.md

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError
from privacy.study.manifest import Study, load_study
from server.figures import (
    COMPLETE_TAG,
    DIGEST_OF_STUDY,
    RUN_TAG,
    FigurePoint,
    milliseconds,
    quality_points,
    round_points,
    run_tags,
    study_parameters,
)
from server.mlflow_client import mlflow_errors, public_uri, quiet_client
from server.model_card import model_card
from server.registry import LOG_LATER, read_release, register_version, unchanged
from server.status import ReleaseStatus, RunStatus
from server.tables import RunState

if TYPE_CHECKING:
    from mlflow.entities import Run

_HINT = (
    "The rounds go on; every round tries again. Start the server, or correct [tracking] in "
    f"consortium.toml. {LOG_LATER}"
)
_BATCH = 900  # metrics in one request; MLflow takes 1000
_PARAMETERS = 100  # in one request


@dataclass(frozen=True, slots=True)
class TrackingPlace:
    """A tracking URI, and the folder for artifacts unless a server keeps them.

    `study`: the study's file, which becomes an artifact; None leaves it out.
    """

    uri: str
    artifacts: Path
    study: Path | None = None


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where a run is found in MLflow; `version` of the registered model, if it has an adapter."""

    run: str  # MLflow's run id
    version: str | None


class Tracking:
    """A study's experiment. Every method raises `DeploymentError` if MLflow cannot be used."""

    def __init__(self, place: TrackingPlace, study: Study) -> None:
        self._study = study
        self._place = place
        with self._errors():
            if place.uri.startswith("sqlite:///"):
                database = Path(place.uri.removeprefix("sqlite:///"))
                database.parent.mkdir(parents=True, exist_ok=True)
            self._client = quiet_client(place.uri)
            self._experiment = self._find_experiment()

    def sync(self, status: RunStatus) -> str:
        """Log whatever MLflow lacks of `status`'s rounds; returns MLflow's run id."""
        with self._errors():
            return self._synced(status)

    def publish(self, status: RunStatus) -> Tracked:
        """Log what MLflow lacks of a finished run, and register its adapter as the newest version.

        Raises `DeploymentError` too where the adapter's file is not what the run released.
        """
        with self._errors():
            run, release = self._synced(status), status.release
            version = None
            if release is not None:
                version = self._released(run, status, release)
            self._end(run, status, "FINISHED")
        return Tracked(run, version)

    def failed(self, status: RunStatus) -> str:
        """Log what MLflow lacks of a run that failed or was stopped; returns MLflow's run id."""
        with self._errors():
            run = self._synced(status)
            self._end(run, status, "KILLED" if status.state is RunState.STOPPED else "FAILED")
        return run

    def incomplete(self, ended: Iterable[RunStatus]) -> list[RunStatus]:
        """Those of these ended runs that MLflow does not have completely."""
        with self._errors():
            found = self._client.search_runs(
                [self._experiment], f"tags.`{COMPLETE_TAG}` = 'complete'"
            )
        names = {(run.data.tags.get(DIGEST_OF_STUDY), run.data.tags.get(RUN_TAG)) for run in found}
        digest = self._study.digest().hex()
        return [status for status in ended if (digest, str(status.run)) not in names]

    def _errors(self) -> AbstractContextManager[None]:
        return mlflow_errors(self._place.uri, _HINT)

    def _synced(self, status: RunStatus) -> str:
        from mlflow.entities import Metric, Param

        run = self._find_run(status)
        name = str(run.info.run_id)
        missing = {
            k: v for k, v in study_parameters(self._study).items() if k not in run.data.params
        }
        pairs = [Param(key, value) for key, value in missing.items()]
        for start in range(0, len(pairs), _PARAMETERS):
            self._client.log_batch(name, params=pairs[start : start + _PARAMETERS])
        for key, value in run_tags(self._study, status).items():
            if key not in run.data.tags:  # an older version's run
                self._client.set_tag(name, key, value)
        for every in (round_points(status), quality_points(status)):
            for batch in _batches(self._new(name, list(every))):
                metrics = [Metric(p.name, p.value, p.time, p.round) for p in batch]
                self._client.log_batch(name, metrics=metrics)
        return name

    def _new(self, run: str, groups: list[list[FigurePoint]]) -> list[list[FigurePoint]]:
        """Those groups whose first point MLflow lacks: a group is logged whole."""
        logged = {
            (name, point.step)
            for name in {group[0].name for group in groups}
            for point in self._client.get_metric_history(run, name)
        }
        return [group for group in groups if (group[0].name, group[0].round) not in logged]

    def _find_experiment(self) -> str:
        name = self._study.name
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage != "active":
                raise self._deleted(
                    f"experiment {name}", f"experiments restore -x {found.experiment_id}"
                )
            return str(found.experiment_id)
        # A tracking server decides for itself where artifacts go.
        local = self._place.uri.startswith(("sqlite:", "file:"))
        where = (self._place.artifacts / name).absolute().as_uri() if local else None
        return str(self._client.create_experiment(name, artifact_location=where))

    def _find_run(self, status: RunStatus) -> Run:
        """The run of `status`, made if there is none.

        There are two where a server was so slow that it carried out a request after we had given
        up, and made another: the emptier one is deleted.
        """
        from mlflow.entities import ViewType

        digest = self._study.digest().hex()
        wanted = f"tags.`{RUN_TAG}` = '{status.run}' and tags.`{DIGEST_OF_STUDY}` = '{digest}'"
        every = self._client.search_runs([self._experiment], wanted, run_view_type=ViewType.ALL)
        found = [run for run in every if run.info.lifecycle_stage == "active"]
        found.sort(key=lambda run: (-len(run.data.metrics), run.info.run_id))
        for extra in found[1:]:
            self._client.delete_run(extra.info.run_id)
        if found:
            return found[0]
        if every:
            name = every[0].info.run_id
            raise self._deleted(f"run {status.run}", f"runs restore --run-id {name}")
        return self._client.create_run(
            self._experiment,
            run_name=f"run {status.run}",
            tags=dict(run_tags(self._study, status)),
            start_time=milliseconds(status.started),
        )

    def _deleted(self, what: str, command: str) -> DeploymentError:
        return DeploymentError(
            f"The {what} was deleted in MLflow at {public_uri(self._place.uri)}.",
            f"Nothing is logged there any more. To have it back: mlflow {command}. {LOG_LATER}",
            id=ErrorId.MLFLOW_UNUSABLE,
        )

    def _released(self, run: str, status: RunStatus, release: ReleaseStatus) -> str:
        """Log files and card, register the adapter; returns the model's version."""
        adapter, facts = read_release(status.run, release)
        card = model_card(self._study, status, facts)
        self._client.log_artifact(run, str(adapter), "adapter")
        self._log_text(run, card, "adapter", "README.md")
        samples = unchanged(release.samples, release.samples_sha256)
        if samples is not None:  # else a later run's have replaced them
            self._client.log_artifact(run, str(samples), "samples")
        return register_version(self._client, run, self._study, status.run, facts, card)

    def _end(self, run: str, status: RunStatus, how: str) -> None:
        """The study's file, MLflow's state of the run, and the mark that nothing is missing."""
        if self._place.study is not None and _is_file_of(self._study, self._place.study):
            self._client.log_artifact(run, str(self._place.study), "study")
        end = None if status.finished is None else milliseconds(status.finished)
        self._client.set_terminated(run, how, end)
        self._client.set_tag(run, COMPLETE_TAG, "complete")

    def _log_text(self, run: str, text: str, folder: str, name: str) -> None:
        with tempfile.TemporaryDirectory(prefix="craftsfl-") as scratch:
            file = Path(scratch) / name
            file.write_text(text, "utf-8")
            self._client.log_artifact(run, str(file), folder)


def _is_file_of(study: Study, file: Path) -> bool:
    """Whether the file still is the study's: somebody may have edited it since the run began."""
    try:
        return load_study(file).digest() == study.digest()
    except ConfigError:
        return False


def _batches(rounds: Iterable[list[FigurePoint]]) -> Iterator[list[FigurePoint]]:
    """The points of whole rounds, as many as one request takes: a round is logged or it is not."""
    batch: list[FigurePoint] = []
    for points in rounds:
        if batch and len(batch) + len(points) > _BATCH:
            yield batch
            batch = []
        batch = batch + points
    if batch:
        yield batch

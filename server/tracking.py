"""MLflow: experiment = study, run = federation run, rounds as steps. A view, never evidence.

Everything is derived from the round state and can be logged again at any time: runs are found by
their Flower run id, no round is logged twice, and parameters are written once. Only public or
accounted figures are logged: epsilons, numbers of updates, norms of released adapters, seconds; no
losses, no counts of drawn patients, no metrics of a site's own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.origin import DIGEST_TAG
from privacy.study.manifest import Study
from server.mlflow_client import mlflow_errors, quiet_client
from server.status import RoundStatus, RunStatus
from server.tables import AttemptState

if TYPE_CHECKING:
    from mlflow.entities import Metric

RUN_TAG = "craftsfl.run"
ALIAS = "challenger"  # the newest adapter; a person decides whether it becomes the champion
_ROUND_MARK = "updates"  # logged for every round, in one batch with its other metrics
_HINT = "The rounds go on. Correct [tracking] in consortium.toml; the next run logs again."


@dataclass(frozen=True, slots=True)
class TrackingPlace:
    """A tracking URI, and the folder for artifacts unless a server keeps them."""

    uri: str
    artifacts: Path


@dataclass(frozen=True, slots=True)
class ReleasedFiles:
    """What a finished run publishes: the final adapter and the picture of samples."""

    adapter: Path
    samples: Path


@dataclass(frozen=True, slots=True)
class Tracked:
    """Where a run is found in MLflow."""

    run: str  # MLflow's run id
    version: str  # of the registered model


class Tracking:
    """A study's experiment. Every method raises `DeploymentError` if MLflow cannot be reached."""

    def __init__(self, place: TrackingPlace, study: Study) -> None:
        self._study = study
        self._uri = place.uri
        with mlflow_errors(self._uri, _HINT):
            if place.uri.startswith("sqlite:///"):
                database = Path(place.uri.removeprefix("sqlite:///"))
                database.parent.mkdir(parents=True, exist_ok=True)
            self._client = quiet_client(place.uri)
            self._experiment = self._find_experiment(place)

    def sync(self, status: RunStatus) -> str:
        """Log whatever MLflow lacks of `status`; returns MLflow's run id."""
        with mlflow_errors(self._uri, _HINT):
            run = self._find_run(status)
            marks = self._client.get_metric_history(run, _ROUND_MARK)
            logged = {mark.step for mark in marks}
            for item in status.history:
                if item.state is AttemptState.FINISHED and item.round not in logged:
                    self._client.log_batch(run, metrics=_metrics(item, status))
        return run

    def publish(self, status: RunStatus, release: ReleasedFiles) -> Tracked:
        """Log adapter and picture, and register the adapter as the model's newest version."""
        run = self.sync(status)
        with mlflow_errors(self._uri, _HINT):
            self._client.log_artifact(run, str(release.adapter), "adapter")
            self._client.log_artifact(run, str(release.samples), "samples")
            version = self._register(run, release.adapter)
            self._client.set_terminated(run, "FINISHED")
        return Tracked(run, version)

    def failed(self, status: RunStatus) -> None:
        """Mark the run as failed."""
        run = self.sync(status)
        with mlflow_errors(self._uri, _HINT):
            self._client.set_terminated(run, "FAILED")

    def _find_experiment(self, place: TrackingPlace) -> str:
        name = self._study.name
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        # A tracking server decides for itself where artifacts go.
        local = place.uri.startswith(("sqlite:", "file:"))
        where = (place.artifacts / name).absolute().as_uri() if local else None
        return str(self._client.create_experiment(name, artifact_location=where))

    def _find_run(self, status: RunStatus) -> str:
        wanted = f"tags.`{RUN_TAG}` = '{status.run}'"
        found = self._client.search_runs([self._experiment], wanted)
        if found:
            return str(found[0].info.run_id)
        tags = {RUN_TAG: str(status.run), "craftsfl.study_digest": self._study.digest().hex()}
        if self._study.training.noise_multiplier == 0:
            tags["craftsfl.privacy"] = "none: the study adds no noise"
        run = self._client.create_run(
            self._experiment,
            run_name=f"run {status.run}",
            tags=tags,
            start_time=_milliseconds(status.started),
        )
        for name, value in _parameters(self._study).items():
            self._client.log_param(run.info.run_id, name, value)
        return str(run.info.run_id)

    def _register(self, run: str, adapter: Path) -> str:
        """The model version of `run`; a new one becomes the challenger."""
        from mlflow.exceptions import MlflowException

        name = self._study.name
        found = self._client.search_model_versions(f"name = '{name}'")
        mine = [str(version.version) for version in found if version.run_id == run]
        if mine:
            return mine[0]
        try:
            self._client.get_registered_model(name)
        except MlflowException:
            self._client.create_registered_model(name)
        source = f"{self._client.get_run(run).info.artifact_uri}/adapter"
        digest = "sha256:" + hashlib.sha256(adapter.read_bytes()).hexdigest()
        made = self._client.create_model_version(
            name, source=source, run_id=run, tags={DIGEST_TAG: digest}
        )
        self._client.set_registered_model_alias(name, ALIAS, made.version)
        return str(made.version)


def _metrics(item: RoundStatus, status: RunStatus) -> list[Metric]:
    """The public figures of a finished round, which is MLflow's step."""
    from mlflow.entities import Metric

    values = {_ROUND_MARK: float(item.updates), "attempts": float(item.attempt)}
    if item.adapter_norm is not None:
        values["adapter_norm"] = item.adapter_norm
    if item.seconds is not None:
        values["seconds"] = item.seconds
    for part in item.sites:
        # MLflow turns infinity into 1.8e308, so "no privacy" is a tag, never a number.
        if part.epsilon is not None and math.isfinite(part.epsilon):
            values[f"epsilon_used.{part.name}"] = part.epsilon
    when = _milliseconds(status.started)
    return [Metric(name, value, when, item.round) for name, value in values.items()]


def _parameters(study: Study) -> Mapping[str, str]:
    """The study's public settings, flat: "training.steps" and so on."""
    tables = study.model_dump(mode="json", include=set(_TABLES))
    flat = {
        f"{table}.{name}": str(value) for table in _TABLES for name, value in tables[table].items()
    }
    patients = {f"patients.{site.name}": str(site.declared_patients) for site in study.sites}
    return {"rounds": str(study.rounds), **flat, **patients}


_TABLES = ("base", "adapter", "training", "privacy", "aggregation", "cohort")


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)

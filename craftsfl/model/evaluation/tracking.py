"""Figures of an evaluation in MLflow: only numbers, never a file's name or a caption."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from craftsfl.model.evaluation.report import EvaluationReport
from privacy.errors import ConfigError
from server.mlflow_client import mlflow_errors, public_uri, quiet_client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

EXPERIMENT = "craftsfl-evaluation"
_LOCAL = ("sqlite:", "file:", "/", "./")
_NOT_A_NAME = re.compile(r"[^0-9A-Za-z_\-. /]+")
_HINT = "Correct --tracking-uri and --run; the figures are above and in --json."


@dataclass(frozen=True, slots=True)
class Destination:
    """Where to log: into the run of this id, or a new one of the experiment."""

    uri: str
    run: str | None = None
    experiment: str = EXPERIMENT


def destination(uri: str | None, run: str | None, experiment: str | None) -> Destination | None:
    """From the options; None: nothing is logged. A URI alone only says where adapters are.

    Raises `ConfigError` for a run or an experiment without a URI, or for both of them.
    """
    if run is None and experiment is None:
        return None
    if uri is None:
        raise ConfigError("--run and --experiment need an MLflow.", "Name it with --tracking-uri.")
    if run is not None and experiment is not None:
        raise ConfigError(
            "--run names an existing run, --experiment makes a new one.", "Name only one of them."
        )
    return Destination(uri, run, experiment or EXPERIMENT)


def check_destination(destination: Destination, *, public: bool) -> None:
    """Raise `ConfigError` if figures on patients' tiles would go to another machine."""
    if not public and not destination.uri.startswith(_LOCAL):
        where = public_uri(destination.uri)
        raise ConfigError(
            f"Figures computed on patients' tiles may not be sent to {where}.",
            "Log to a file at this site (sqlite:///evaluation.db), or evaluate on public tiles "
            "and say so: --public-data.",
        )


def log_evaluation(report: EvaluationReport, destination: Destination) -> str:
    """Log every figure with interval and references; returns MLflow's run id.

    Raises `DeploymentError` if MLflow cannot be used, `ConfigError` as `check_destination`.
    """
    check_destination(destination, public=report.public)
    with mlflow_errors(destination.uri, _HINT):
        client = quiet_client(destination.uri)
        own = destination.run is None
        run = destination.run or _new_run(client, destination.experiment)
        client.log_batch(run, metrics=_entities(report))
        client.set_tag(run, "craftsfl.evaluation", "public" if report.public else "stays at site")
        if own:
            client.set_terminated(run, "FINISHED")
    return run


def _entities(report: EvaluationReport) -> list[Metric]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, value, now, 0) for name, value in metrics(report).items()]


def metrics(report: EvaluationReport) -> dict[str, float]:
    """Names such as evaluation/frechet/tiny, .../low, .../floor, and their finite values."""
    found: dict[str, float] = {}
    for figure in report.answer.figures:
        stem = f"evaluation/{figure.metric}/{_name(figure.encoder)}"
        values = {
            stem: figure.value,
            f"{stem}/low": figure.low,
            f"{stem}/high": figure.high,
            f"{stem}/n_real": float(figure.n_real),
            f"{stem}/n_generated": float(figure.n_generated),
        }
        for reference in figure.beside:
            values[f"{stem}/{_name(reference.name)}"] = reference.value
        found |= values
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _name(text: str) -> str:
    """Only characters that MLflow allows in a metric's name; of a path, the last part."""
    text = text.replace("ε", "epsilon").replace("'", "").rstrip("/").rsplit("/", 1)[-1]
    return _NOT_A_NAME.sub("_", text).replace(" ", "_")


def _new_run(client: MlflowClient, experiment: str) -> str:
    found = client.get_experiment_by_name(experiment)
    number = found.experiment_id if found else client.create_experiment(experiment)
    return str(client.create_run(number, run_name="evaluation").info.run_id)

"""MLflow: the same experiment room as a coordinator's, under the simulated study's own name.

A view, never evidence: what cannot be logged is a warning, and the simulation has its result.
Nothing is registered as a model.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from craftsfl.simulation.config import SimulationResult
from privacy.study.manifest import Study
from server.figures import study_parameters
from server.mlflow_client import mlflow_errors, quiet_client
from server.status import RunStatus
from server.tracking import Tracking, TrackingPlace

if TYPE_CHECKING:
    from mlflow import MlflowClient

_HINT = "The simulation itself is finished, and its result is kept. Correct --mlflow."
_PARAMETERS = 100  # in one request


class NewestStatus:
    """A `Tracker` that remembers the newest state of a run."""

    def __init__(self) -> None:
        self.status: RunStatus | None = None

    def round_finished(self, status: RunStatus) -> None:
        """See `Tracker`."""
        self.status = status


def track_arm(
    uri: str, artifacts: Path, study: Study, result: SimulationResult, status: RunStatus | None
) -> str:
    """Log an arm that has finished; returns MLflow's run id. Raises `DeploymentError`.

    With the `status` of a federation, its rounds are logged as a coordinator logs them.
    """
    with mlflow_errors(uri, _HINT):
        client = quiet_client(uri)
        if status is not None and not result.own:
            run = Tracking(TrackingPlace(uri, artifacts), study).sync(status)
        else:
            run = _new_run(client, uri, artifacts, study, result)
        client.set_tag(run, "craftsfl.simulated_arm", f"{result.arm} {result.own}".strip())
        gain = result.gain
        for name, value in (("gain", gain.mean), ("gain_low", gain.low), ("gain_high", gain.high)):
            client.log_metric(run, name, value, step=result.steps)
        client.log_artifact(run, str(result.adapter), "adapter")
        client.set_terminated(run, "FINISHED")
    return run


def _new_run(
    client: MlflowClient, uri: str, artifacts: Path, study: Study, result: SimulationResult
) -> str:
    from mlflow.entities import Param

    found = client.get_experiment_by_name(study.name)
    local = uri.startswith(("sqlite:", "file:"))
    where = (artifacts / study.name).absolute().as_uri() if local else None
    experiment = (
        found.experiment_id
        if found is not None
        else client.create_experiment(study.name, artifact_location=where)
    )
    run = client.create_run(experiment, run_name=result.arm, start_time=int(1000 * time.time()))
    name = str(run.info.run_id)
    pairs = [Param(key, value) for key, value in study_parameters(study).items()]
    for start in range(0, len(pairs), _PARAMETERS):
        client.log_batch(name, params=pairs[start : start + _PARAMETERS])
    return name

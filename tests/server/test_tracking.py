from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from privacy.errors import DeploymentError
from server.background import BackgroundTracking
from server.status import PartStatus, RoundStatus, RunStatus, SiteStatus
from server.tables import AttemptState, PartState, RunState, SiteState
from server.tracking import ReleasedFiles, Tracking, TrackingPlace
from tests.server.fakes import RUN, make_study

URI = "sqlite:///{}/mlflow.db"


def finished(number: int, epsilon: float | None = 0.5) -> RoundStatus:
    part = PartStatus("north", PartState.FINISHED, "", epsilon)
    lost = PartStatus("harbour", PartState.DROPPED, "It was late.", None)
    return RoundStatus(number, 1, AttemptState.FINISHED, "", 1, 2.0, 9.0, (part, lost))


def status_with(*history: RoundStatus) -> RunStatus:
    site = SiteStatus("north", 500, SiteState.JOINED, "", 1, 0.5, 8.0, 1e-5, False)
    return RunStatus(
        run=RUN,
        study="test-study",
        state=RunState.RUNNING,
        message="",
        rounds_done=len(history),
        rounds=2,
        started=1.7e9,
        finished=None,
        sites=(site,),
        history=history,
        phases={},
    )


@pytest.fixture
def place(tmp_path: Path, empty_mlflow: bytes) -> TrackingPlace:
    (tmp_path / "mlflow.db").write_bytes(empty_mlflow)
    return TrackingPlace(URI.format(tmp_path), tmp_path / "artifacts")


@pytest.fixture
def tracking(place: TrackingPlace, study_values: dict[str, Any]) -> Tracking:
    return Tracking(place, make_study(study_values))


@pytest.fixture
def client(place: TrackingPlace) -> MlflowClient:
    return MlflowClient(tracking_uri=place.uri)


@pytest.fixture
def release(tmp_path: Path) -> ReleasedFiles:
    files = ReleasedFiles(tmp_path / "test-study-1.safetensors", tmp_path / "samples.png")
    files.adapter.write_bytes(b"adapter")
    files.samples.write_bytes(b"picture")
    return files


def history(client: MlflowClient, run: str, key: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(run, key)]


def test_a_study_is_an_experiment_and_rounds_are_steps(
    tracking: Tracking, client: MlflowClient
) -> None:
    run = tracking.sync(status_with(finished(1), finished(2, 1.0)))
    found = client.get_run(run)
    experiment = client.get_experiment_by_name("test-study")
    assert experiment is not None
    assert found.info.experiment_id == experiment.experiment_id
    assert history(client, run, "updates") == [(1, 1.0), (2, 1.0)]
    assert history(client, run, "epsilon_used.north") == [(1, 0.5), (2, 1.0)]
    assert history(client, run, "adapter_norm") == [(1, 2.0), (2, 2.0)]
    assert history(client, run, "seconds") == [(1, 9.0), (2, 9.0)]


def test_only_public_or_accounted_figures_are_logged(
    tracking: Tracking, client: MlflowClient
) -> None:
    found = client.get_run(tracking.sync(status_with(finished(1))))
    allowed = {"updates", "attempts", "adapter_norm", "seconds", "epsilon_used.north"}
    assert set(found.data.metrics) == allowed
    assert not any("glands" in value for value in found.data.params.values())


def test_parameters_are_the_public_study(tracking: Tracking, client: MlflowClient) -> None:
    params = client.get_run(tracking.sync(status_with())).data.params
    assert params["training.noise_multiplier"] == "1.0"
    assert params["patients.north"] == "500"
    assert params["base.digest"] == "sha256:" + "0" * 64
    assert params["aggregation.strategy"] == "fedavg"


def test_logging_again_changes_nothing(
    tracking: Tracking, place: TrackingPlace, client: MlflowClient, study_values: dict[str, Any]
) -> None:
    run = tracking.sync(status_with(finished(1)))
    again = Tracking(place, make_study(study_values)).sync(status_with(finished(1), finished(2)))
    assert again == run
    assert history(client, run, "updates") == [(1, 1.0), (2, 1.0)]


def test_failed_attempts_are_not_rounds(tracking: Tracking, client: MlflowClient) -> None:
    failed = replace(finished(1), state=AttemptState.FAILED)
    run = tracking.sync(status_with(failed, replace(finished(1), attempt=2)))
    assert history(client, run, "attempts") == [(1, 2.0)]


def test_no_privacy_is_a_tag_and_never_a_number(
    place: TrackingPlace, client: MlflowClient, study_values: dict[str, Any]
) -> None:
    study = make_study(study_values, training={"noise_multiplier": 0.0})
    found = client.get_run(Tracking(place, study).sync(status_with(finished(1, math.inf))))
    assert found.data.tags["craftsfl.privacy"].startswith("none")
    assert "epsilon_used.north" not in found.data.metrics


def test_the_adapter_is_registered_once_as_challenger(
    tracking: Tracking, client: MlflowClient, release: ReleasedFiles
) -> None:
    status = status_with(finished(1), finished(2))
    tracked = tracking.publish(status, release)
    assert tracking.publish(status, release) == tracked
    version = client.get_model_version_by_alias("test-study", "challenger")
    assert (str(version.version), version.run_id) == (tracked.version, tracked.run)
    assert len(client.search_model_versions("name = 'test-study'")) == 1
    names = {item.path for item in client.list_artifacts(tracked.run, "adapter")}
    assert names == {"adapter/test-study-1.safetensors"}
    assert [a.path for a in client.list_artifacts(tracked.run, "samples")] == [
        "samples/samples.png"
    ]
    assert client.get_run(tracked.run).info.status == "FINISHED"


def test_the_next_run_is_the_next_version(
    tracking: Tracking, client: MlflowClient, release: ReleasedFiles
) -> None:
    tracking.publish(status_with(finished(1)), release)
    second = tracking.publish(replace(status_with(finished(1)), run=2), release)
    assert second.version == "2"
    assert str(client.get_model_version_by_alias("test-study", "challenger").version) == "2"


def test_telemetry_is_off(tracking: Tracking) -> None:
    from mlflow.telemetry.utils import is_telemetry_disabled

    tracking.sync(status_with())
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert is_telemetry_disabled()


def test_a_place_that_cannot_be_used_is_an_error_to_act_on(
    tmp_path: Path, study_values: dict[str, Any]
) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    place = TrackingPlace(URI.format(tmp_path), tmp_path)
    with pytest.raises(DeploymentError, match=r"\[tracking\]"):
        Tracking(place, make_study(study_values))


class Recorder:
    """Stands for a `Tracking`; its first call fails."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.calls = 0

    def sync(self, status: RunStatus) -> str:
        self.calls += 1
        if self.calls == 1:
            raise DeploymentError("No server.", "Start it.")
        self.rounds = [item.round for item in status.history]
        return "run"

    def failed(self, status: RunStatus) -> None:
        self.rounds.append(-1)


def test_rounds_do_not_wait_for_tracking_or_fail_with_it() -> None:
    recorder = Recorder()
    make: Callable[[], Any] = lambda: recorder  # noqa: E731
    background = BackgroundTracking(make)
    background.round_finished(status_with(finished(1)))
    background.round_finished(status_with(finished(1), finished(2)))
    background.failed(lambda: status_with())
    background.close()
    assert recorder.rounds == [1, 2, -1]


def test_a_run_that_failed_before_its_first_round_is_not_tracked() -> None:
    def make() -> Any:
        raise MlflowException("must not be asked for")

    background = BackgroundTracking(make)
    background.failed(lambda: status_with())
    background.close()

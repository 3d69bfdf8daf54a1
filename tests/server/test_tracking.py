from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from privacy.errors import DeploymentError
from privacy.study.manifest import Study
from server.catch_up import catch_up
from server.checkpoint import sha256_of
from server.figures import run_tags, user_name
from server.model_card import AdapterFacts, model_card
from server.status import ReleaseStatus, RoundStatus, RunStatus
from server.tables import AttemptState, RunState
from server.tracking import Tracking, TrackingPlace
from tests.server.fakes import RUN, make_study
from tests.server.statuses import finished, status_with

URI = "sqlite:///{}/mlflow.db"


@pytest.fixture
def study(study_values: dict[str, Any]) -> Study:
    return make_study(study_values)


@pytest.fixture
def place(tmp_path: Path, empty_mlflow: bytes, study_values: dict[str, Any]) -> TrackingPlace:
    (tmp_path / "mlflow.db").write_bytes(empty_mlflow)
    file = tmp_path / "study.toml"
    file.write_text(tomli_w.dumps(study_values), "utf-8")
    return TrackingPlace(URI.format(tmp_path), tmp_path / "artifacts", file)


@pytest.fixture
def tracking(place: TrackingPlace, study: Study) -> Tracking:
    return Tracking(place, study)


@pytest.fixture
def client(place: TrackingPlace) -> MlflowClient:
    return MlflowClient(tracking_uri=place.uri)


@pytest.fixture
def release(tmp_path: Path) -> ReleaseStatus:
    adapter, samples = tmp_path / "test-study-1.safetensors", tmp_path / "samples.png"
    adapter.write_bytes(b"adapter")
    samples.write_bytes(b"picture")
    return ReleaseStatus(str(adapter), sha256_of(adapter), str(samples), sha256_of(samples))


def released(release: ReleaseStatus, *history: RoundStatus, run: int = RUN) -> RunStatus:
    status = status_with(*history)
    return replace(status, run=run, release=release, state=RunState.FINISHED, finished=1.7e9 + 99)


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
    tracking: Tracking, place: TrackingPlace, client: MlflowClient, study: Study
) -> None:
    run = tracking.sync(status_with(finished(1)))
    again = Tracking(place, study).sync(status_with(finished(1), finished(2)))
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
    tracking: Tracking, client: MlflowClient, release: ReleaseStatus
) -> None:
    status = released(release, finished(1), finished(2))
    tracked = tracking.publish(status)
    assert tracking.publish(status) == tracked
    version = client.get_model_version_by_alias("test-study", "challenger")
    assert (str(version.version), version.run_id) == (tracked.version, tracked.run)
    assert len(client.search_model_versions("name = 'test-study'")) == 1
    names = {item.path for item in client.list_artifacts(tracked.run, "adapter")}
    assert names == {"adapter/test-study-1.safetensors", "adapter/README.md"}
    assert [a.path for a in client.list_artifacts(tracked.run, "samples")] == [
        "samples/samples.png"
    ]
    assert client.get_run(tracked.run).info.status == "FINISHED"


def test_the_next_run_is_the_next_version(
    tracking: Tracking, client: MlflowClient, release: ReleaseStatus
) -> None:
    tracking.publish(released(release, finished(1), run=1))
    second = tracking.publish(released(release, finished(1), run=2))
    assert second.version == "2"
    assert str(client.get_model_version_by_alias("test-study", "challenger").version) == "2"


def test_every_point_carries_the_time_of_its_round(
    tracking: Tracking, client: MlflowClient
) -> None:
    run = tracking.sync(status_with(finished(1), finished(2)))
    times = [point.timestamp for point in client.get_metric_history(run, "adapter_norm")]
    assert times == [1_700_000_010_000, 1_700_000_020_000]
    assert client.get_run(run).info.start_time == 1_700_000_000_000


def test_a_run_says_what_it_is_and_who_ran_it(
    tracking: Tracking, client: MlflowClient, release: ReleaseStatus, study: Study
) -> None:
    tracked = tracking.publish(released(release, finished(1)))
    found = client.get_run(tracked.run)
    assert found.data.tags["mlflow.user"] == user_name()
    assert study.digest().hex() in found.data.tags["mlflow.note.content"]
    assert found.info.end_time == 1_700_000_099_000
    assert [item.path for item in client.list_artifacts(tracked.run, "study")] == [
        "study/study.toml"
    ]
    assert "hospitals" in client.get_registered_model("test-study").description


def test_the_model_card_stands_beside_the_adapter(
    tracking: Tracking,
    client: MlflowClient,
    release: ReleaseStatus,
    study: Study,
    tmp_path: Path,
) -> None:
    tracked = tracking.publish(released(release, finished(1)))
    card = Path(client.download_artifacts(tracked.run, "adapter/README.md", str(tmp_path)))
    text = card.read_text("utf-8")
    assert text == client.get_model_version("test-study", "1").description
    for fact in (study.base.digest, study.digest().hex(), release.adapter_sha256, "glands"):
        assert (fact in text) == (fact != "glands")
    assert "| north | 500 | 1 | 0.50 |" in text
    assert "load_lora_weights" in text and "models:/test-study/" in text


def test_the_model_card_promises_nothing_without_noise(study_values: dict[str, Any]) -> None:
    study = make_study(study_values, training={"noise_multiplier": 0.0})
    site = replace(status_with().sites[0], epsilon=math.inf)
    facts = AdapterFacts("a.safetensors", "00", None)
    text = model_card(study, replace(status_with(), sites=(site,)), facts)
    assert "no promise: the study adds no noise" in text
    assert "| north | 500 | 1 | no noise, no privacy |" in text
    assert "inf" not in text.replace("information", "")


def test_a_changed_adapter_is_not_published(
    tracking: Tracking, client: MlflowClient, release: ReleaseStatus
) -> None:
    Path(release.adapter).write_bytes(b"another")
    with pytest.raises(DeploymentError, match="gone or was changed"):
        tracking.publish(released(release, finished(1)))
    assert client.search_model_versions("name = 'test-study'") == []


def test_samples_of_a_later_run_are_not_an_earlier_ones(
    tracking: Tracking, client: MlflowClient, release: ReleaseStatus
) -> None:
    Path(release.samples).write_bytes(b"a later run's")
    tracked = tracking.publish(released(release, finished(1)))
    assert client.list_artifacts(tracked.run, "samples") == []


def test_a_study_file_edited_since_is_not_logged(
    tracking: Tracking, client: MlflowClient, release: ReleaseStatus, place: TrackingPlace
) -> None:
    assert place.study is not None
    place.study.write_text(place.study.read_text("utf-8").replace("rounds = 2", "rounds = 3"))
    tracked = tracking.publish(released(release, finished(1)))
    assert client.list_artifacts(tracked.run, "study") == []


def test_an_alias_that_a_person_moved_stays(
    tracking: Tracking, client: MlflowClient, release: ReleaseStatus
) -> None:
    tracking.publish(released(release, finished(1), run=1))
    tracking.publish(released(release, finished(1), run=2))
    client.set_registered_model_alias("test-study", "challenger", "1")
    tracking.publish(released(release, finished(1), run=2))
    assert str(client.get_model_version_by_alias("test-study", "challenger").version) == "1"


def test_an_older_run_logged_late_does_not_become_the_challenger(
    tracking: Tracking, client: MlflowClient, release: ReleaseStatus
) -> None:
    tracking.publish(released(release, finished(1), run=2))
    assert tracking.publish(released(release, finished(1), run=1)).version == "2"
    assert str(client.get_model_version_by_alias("test-study", "challenger").version) == "1"


def test_a_call_that_broke_off_anywhere_is_completed_by_the_next(
    tracking: Tracking,
    client: MlflowClient,
    release: ReleaseStatus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each request fails once, as if the server had been killed at that moment."""
    status = released(release, finished(1), finished(2, 1.0))
    requests = ("create_run", "log_batch", "log_artifact", "create_registered_model")
    requests += ("create_model_version", "set_registered_model_alias", "set_terminated", "set_tag")
    for name in requests:
        with monkeypatch.context() as broken:

            def refuse(*_: object, **__: object) -> None:
                raise MlflowException("killed")

            broken.setattr(MlflowClient, name, refuse)
            with pytest.raises(DeploymentError, match="rounds track"):
                tracking.publish(status)
    tracked = tracking.publish(status)
    for key in ("updates", "epsilon_used.north"):
        assert [step for step, _ in history(client, tracked.run, key)] == [1, 2]
    assert len(client.search_model_versions("name = 'test-study'")) == 1
    experiment = client.get_run(tracked.run).info.experiment_id
    assert len(client.search_runs([experiment])) == 1
    assert str(client.get_model_version_by_alias("test-study", "challenger").version) == "1"


def test_a_request_that_a_slow_server_carries_out_late_leaves_one_run(
    tracking: Tracking, client: MlflowClient, study: Study
) -> None:
    status = status_with(finished(1))
    run = tracking.sync(status)
    info = client.get_run(run).info
    late = client.create_run(info.experiment_id, tags=dict(run_tags(study, status)))
    for _ in range(2):
        assert tracking.sync(status_with(finished(1), finished(2))) == run
    assert client.get_run(late.info.run_id).info.lifecycle_stage == "deleted"
    point = client.get_metric_history(run, "updates")[0]
    client.log_metric(run, "updates", point.value, timestamp=point.timestamp, step=1)
    assert history(client, run, "updates") == [(1, 1.0), (2, 1.0)]


def test_what_a_person_deleted_stays_deleted(tracking: Tracking, client: MlflowClient) -> None:
    run = tracking.sync(status_with(finished(1)))
    client.delete_run(run)
    with pytest.raises(DeploymentError, match=f"runs restore --run-id {run}"):
        tracking.sync(status_with(finished(1)))


def test_a_deleted_experiment_is_named_with_the_way_back(
    tracking: Tracking, client: MlflowClient, place: TrackingPlace, study: Study
) -> None:
    experiment = client.get_experiment_by_name("test-study")
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(DeploymentError, match="mlflow experiments restore"):
        Tracking(place, study)


def test_only_what_is_missing_of_ended_runs_is_logged_later(
    tracking: Tracking, client: MlflowClient, release: ReleaseStatus
) -> None:
    one = released(release, finished(1), run=1)
    two = replace(status_with(finished(1)), run=2, state=RunState.FAILED)
    stopped = replace(two, run=4, state=RunState.STOPPED)
    three = released(release, finished(1), run=3)
    tracking.publish(one)
    Path(release.samples).unlink()
    caught = list(catch_up(tracking, [one, two, three, stopped]))
    assert [item.status.run for item in caught] == [2, 3, 4]
    assert [item.error for item in caught] == [None, None, None]
    assert [item.tracked.version for item in caught if item.tracked] == [None, "2", None]
    assert list(catch_up(tracking, [one, two, three, stopped])) == []
    states = {run.info.run_name: run.info.status for run in client.search_runs(["1"])}
    assert states == {
        "run 1": "FINISHED",
        "run 2": "FAILED",
        "run 3": "FINISHED",
        "run 4": "KILLED",
    }


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

"""A run that tracks to a real `mlflow server` of another user, which is killed and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomli_w
from mlflow import MlflowClient

from craftsfl.processes.supervisor import claim_port
from craftsfl.rounds.tracking import track_runs
from model.adapters import load_adapter
from model.origin import DIGEST_TAG
from privacy.wire.envelope import open_envelope
from scripts.other_users import command_as
from server.checkpoint import sha256_of
from server.settings import load_consortium
from server.status_reader import read_ended
from tests.server.listening import hang, listening
from tests.server.office import Office, drawn
from tests.users import AGENT, SUPERNODE, give, needs_users, open_folder

SERVER, VISITOR = AGENT, SUPERNODE  # two other users of this machine
ROUNDS = 4
DOWNLOAD = """
import sys
from pathlib import Path
from craftsfl.model.adapter_source import find_adapter
found = find_adapter(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
print(found.source, found.digest)
"""


class MlflowServer:
    """`mlflow server` as the user `SERVER`, in a folder that nobody else may enter."""

    def __init__(self, folder: Path, database: bytes) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)
        (folder / "mlflow.db").write_bytes(database)
        give(folder, SERVER)
        self.port = claim_port("127.0.0.1", None)
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        arguments += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        arguments += ["--artifacts-destination", str(self.folder / "artifacts")]
        command = [sys.executable, "-m", "mlflow", "server", *arguments]
        home = {"HOME": str(self.folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command_as(SERVER, command),
                cwd="/",
                env={**os.environ, **home},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait()

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 90.0
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text("utf-8")[-2000:])


@pytest.fixture
def server(empty_mlflow: bytes) -> Iterator[MlflowServer]:
    with ExitStack() as stack:
        server = MlflowServer(stack.enter_context(open_folder()) / "mlflow", empty_mlflow)
        stack.callback(server.kill)
        server.start()
        yield server


@pytest.fixture
def office(
    tmp_path: Path,
    tiny_base: Path,
    study_values: dict[str, Any],
    server: MlflowServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Office:
    module = ModuleType("server.samples")
    module.draw_samples = drawn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "server.samples", module)
    study_values["rounds"] = ROUNDS
    office = Office(tmp_path, tiny_base, study_values)
    text = office.file.read_text("utf-8") + f'\n[tracking]\nuri = "{server.uri}"\n'
    office.file.write_text(text, "utf-8")
    office.settings = load_consortium(office.file)
    return office


def before_round(office: Office, number: int, action: Callable[[], None]) -> list[int]:
    """Do `action` once, when a site is first asked to train in round `number`; lists it then."""
    done: list[int] = []
    node, handle = next(iter(office.handlers.items()))

    def watch(data: bytes) -> bytes:
        if not done and open_envelope(data, limit=10_000).round == number:
            done.append(number)
            action()
        return handle(data)

    office.handlers[node] = watch
    return done


def points(client: MlflowClient, run: str, key: str) -> list[int]:
    return [point.step for point in client.get_metric_history(run, key)]


def wait_for_round(client: MlflowClient, number: int) -> None:
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        experiment = client.get_experiment_by_name("test-study")
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        if runs and number in points(client, runs[0].info.run_id, "updates"):
            return
        time.sleep(0.1)
    raise AssertionError(f"round {number} was not logged while it could be")


@needs_users
@pytest.mark.slow
@pytest.mark.integration
def test_a_server_killed_during_a_run_has_everything_once_afterwards(
    office: Office, server: MlflowServer, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient(tracking_uri=server.uri, registry_uri=server.uri)

    def crash() -> None:
        wait_for_round(client, 1)
        server.kill()

    crashed = before_round(office, 2, crash)
    began = time.monotonic()
    office.operate()
    assert crashed and time.monotonic() - began < 40.0
    result = office.result()
    assert (result["model_version"], result["rounds"]) == (None, ROUNDS)
    assert "craftsfl rounds track consortium.toml" in result["warnings"][0]

    server.start()
    for _ in range(2):
        track_runs(office.file)
    told = capsys.readouterr().err
    assert "is logged: MLflow run" in told and "MLflow has all ended runs" in told

    (status,) = read_ended(office.settings.database_url(), office.study.digest().hex())
    experiment = client.get_experiment_by_name("test-study")
    assert experiment is not None and experiment.artifact_location.startswith("mlflow-artifacts:")
    (run,) = client.search_runs([experiment.experiment_id])
    name = run.info.run_id
    for key in ("updates", "attempts", "adapter_norm", "seconds", "epsilon_used.north"):
        assert points(client, name, key) == list(range(1, ROUNDS + 1)), key
    times = [point.timestamp for point in client.get_metric_history(name, "updates")]
    assert times == [int((item.finished or 0) * 1000) for item in status.history]
    assert run.info.status == "FINISHED"
    folders = ("adapter", "samples", "study")
    files = {item.path for folder in folders for item in client.list_artifacts(name, folder)}
    adapter = Path(result["adapter"])
    assert files == {
        f"adapter/{adapter.name}",
        "adapter/README.md",
        "samples/samples.png",
        "study/study.toml",
    }
    version = client.get_model_version_by_alias("test-study", "challenger")
    assert version.tags[DIGEST_TAG] == f"sha256:{sha256_of(adapter)}"
    origin = load_adapter(adapter).origin
    assert origin is not None and origin.privacy() in (version.description or "")
    assert len(client.search_model_versions("name = 'test-study'")) == 1
    _downloads(server, sha256_of(adapter))


def _downloads(server: MlflowServer, sha256: str) -> None:
    """A third user, who may enter neither the server's nor the coordinator's folder, gets it."""
    with open_folder() as folder:
        give(folder, VISITOR)
        source = "models:/test-study@challenger"
        code = [sys.executable, "-c", DOWNLOAD, source, server.uri, str(folder)]
        got = subprocess.run(
            command_as(VISITOR, code),
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={**os.environ, "HOME": str(folder)},
        )
    assert got.stdout.split() == ["models:/test-study/1", f"sha256:{sha256}"], got.stderr[-2000:]


ENDING = """
import sys, time
from pathlib import Path
from privacy.errors import DeploymentError
from privacy.study.manifest import Study
from server.background import BackgroundTracking
from server.tracking import Tracking, TrackingPlace
from tests.server.test_tracking import finished, status_with
import tomllib, mlflow
study = Study.model_validate(tomllib.loads(Path(sys.argv[2]).read_text()))
place = TrackingPlace(sys.argv[1], Path(sys.argv[2]).parent)
tracking = BackgroundTracking(lambda: Tracking(place, study), patience=1.0)
tracking.round_finished(status_with(finished(1)))
began = time.monotonic()
try:
    tracking.publish(status_with(finished(1)))
except DeploymentError:
    print("said", time.monotonic() - began, time.time())
"""


@pytest.mark.slow
def test_a_process_ends_while_mlflow_hangs(tmp_path: Path, study_values: dict[str, Any]) -> None:
    study = tmp_path / "study.toml"
    study.write_text(tomli_w.dumps(study_values), "utf-8")
    with listening(hang) as uri:
        ended = subprocess.run(
            [sys.executable, "-c", ENDING, uri, str(study)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
    word, waited, at = ended.stdout.split()
    assert word == "said"
    assert float(waited) < 3.0
    assert time.time() - float(at) < 3.0

"""Neither rounds nor the end of a run wait for MLflow, whatever its server does."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from privacy.errors import CraftsflError, DeploymentError
from server.background import BackgroundTracking
from server.mlflow_client import public_uri
from server.status import RunStatus
from server.tracking import Tracked, Tracking, TrackingPlace
from tests.server.fakes import make_study
from tests.server.listening import Answer, hang, listening
from tests.server.statuses import finished, status_with

PATIENCE = 1.0


def trickle(link: socket.socket) -> None:
    """A byte now and then, so that no timeout of a single read ever passes."""
    link.recv(65536)
    link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    while True:
        link.sendall(b" ")
        time.sleep(0.3)


def unavailable(link: socket.socket) -> None:
    link.recv(65536)
    link.sendall(
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n"
    )


def login_page(link: socket.socket) -> None:
    """What a proxy in front of MLflow may answer."""
    link.recv(65536)
    link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>log in...")


def garbage(link: socket.socket) -> None:
    link.recv(65536)
    link.sendall(b"\0\xff" * 100)


def slow(link: socket.socket) -> None:
    time.sleep(0.8)
    unavailable(link)


@contextmanager
def nobody() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def imported() -> None:
    """Importing MLflow takes seconds; here, only the waiting for its servers is measured."""
    import mlflow  # noqa: F401


@pytest.fixture
def make(tmp_path: Path, study_values: dict[str, Any]) -> Callable[[str], BackgroundTracking]:
    def background(uri: str) -> BackgroundTracking:
        place = TrackingPlace(uri, tmp_path / "artifacts")
        study = make_study(study_values)
        return BackgroundTracking(lambda: Tracking(place, study), patience=PATIENCE)

    return background


@pytest.mark.parametrize("answer", [hang, trickle, unavailable, login_page, garbage, slow, None])
def test_no_server_holds_a_run_up(
    answer: Answer | None, make: Callable[[str], BackgroundTracking]
) -> None:
    with listening(answer) if answer else nobody() as uri:
        tracking = make(uri)
        began = time.monotonic()
        for number in range(1, 50):
            tracking.round_finished(status_with(*map(finished, range(1, number))))
        rounds = time.monotonic() - began
        with pytest.raises(DeploymentError, match="rounds track"):
            tracking.publish(status_with(finished(1)))
        with pytest.raises(DeploymentError, match="rounds track"):
            tracking.failed(status_with)
        end = time.monotonic() - began - rounds
    assert rounds < 0.5
    assert end < 2 * PATIENCE + 1.0


def test_a_locked_database_does_not_hold_a_run_up(
    tmp_path: Path, empty_mlflow: bytes, make: Callable[[str], BackgroundTracking]
) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_mlflow)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        tracking = make(f"sqlite:///{path}")
        began = time.monotonic()
        tracking.round_finished(status_with(finished(1)))
        with pytest.raises(DeploymentError, match="rounds track"):
            tracking.publish(status_with(finished(1)))
        assert time.monotonic() - began < 2 * PATIENCE + 1.0
        other.execute("ROLLBACK")
    assert tracking_soon(tracking).run


def tracking_soon(tracking: BackgroundTracking) -> Tracked:
    """What is published once MLflow answers again; what waited for a lock may go on for a while."""
    deadline = time.monotonic() + 20.0
    while True:
        try:
            return tracking.publish(status_with(finished(1)))
        except DeploymentError:
            if time.monotonic() > deadline:
                raise


def test_neither_host_nor_password_of_a_database_is_waited_for(
    make: Callable[[str], BackgroundTracking],
) -> None:
    with nobody() as uri:
        port = uri.rpartition(":")[2]
        tracking = make(f"postgresql://somebody:secret@127.0.0.1:{port}/mlflow")
        with pytest.raises(DeploymentError, match="rounds track") as caught:
            tracking.publish(status_with())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri, shown",
    [
        ("https://ada:secret@host.org/x", "https://ada:***@host.org/x"),
        ("postgresql+psycopg://ada:s:e%2Fc@host/db", "postgresql+psycopg://ada:***@host/db"),
        ("sqlite:////state/mlflow.db", "sqlite:////state/mlflow.db"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
    ],
)
def test_no_password_is_shown(uri: str, shown: str) -> None:
    assert public_uri(uri) == shown


class Recorder:
    """Stands for a `Tracking`, with `failures` calls that fail before the others work."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.seen: list[int] = []
        self.gate = threading.Event()
        self.busy = threading.Event()

    def sync(self, status: RunStatus) -> str:
        self.busy.set()
        self.gate.wait(10.0)
        if self.failures:
            self.failures -= 1
            raise DeploymentError("No server.", "Start it.")
        self.seen.append(len(status.history))
        return "run"

    def publish(self, status: RunStatus) -> Tracked:
        self.sync(status)
        return Tracked("run", "1")

    def failed(self, status: RunStatus) -> str:
        return self.sync(status)


def background(recorder: Any, told: list[CraftsflError] | None = None) -> BackgroundTracking:
    warn = (lambda error: None) if told is None else told.append
    return BackgroundTracking(lambda: recorder, warn=warn, patience=10.0)


def test_rounds_that_came_while_it_was_busy_are_logged_with_the_newest() -> None:
    recorder = Recorder()
    tracking = background(recorder)
    tracking.round_finished(status_with(finished(1)))
    assert recorder.busy.wait(10.0)
    for count in (2, 3, 4):
        tracking.round_finished(status_with(*map(finished, range(count))))
    recorder.gate.set()
    assert tracking.publish(status_with()) == Tracked("run", "1")
    assert recorder.seen[0] == 1
    assert recorder.seen[1:] in ([0], [4, 0])


def test_an_outage_is_said_once() -> None:
    recorder = Recorder(failures=3)
    recorder.gate.set()
    told: list[CraftsflError] = []
    tracking = background(recorder, told)
    for number in range(1, 6):
        tracking.round_finished(status_with(finished(number)))
        while tracking.busy:
            time.sleep(0.01)
    assert [error.message for error in told] == ["No server."]
    assert recorder.seen == [1, 1]


def test_a_run_that_failed_before_its_first_round_is_not_tracked() -> None:
    def make() -> Any:
        raise AssertionError("must not be asked for")

    BackgroundTracking(make).failed(status_with)


def test_the_end_of_a_failed_run_is_logged() -> None:
    recorder = Recorder()
    recorder.gate.set()
    tracking = background(recorder)
    tracking.round_finished(status_with(finished(1)))
    tracking.failed(status_with)
    assert recorder.seen[-1] == 0

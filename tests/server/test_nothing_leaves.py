"""A whole run over planted secrets: none of them leaves a hospital, and none is logged.

Real agents with real data folders, ledgers and trainers on the random tiny base, secure
aggregation, and a coordinator that tracks with MLflow. Patient ids, captions, file names, slides,
diagnoses, the pictures' own bytes and the sites' private keys are secrets; pictures are damaged or
missing, and one of four hospitals' training fails with an error that quotes them.
"""

from __future__ import annotations

import base64
import csv
import io
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from client.agent import boundary
from client.agent.boundary import Failure
from client.agent.own_ledger import open_ledger
from client.agent.progress import ProgressSource
from client.agent.ready import ReadyAgent
from client.agent.site_agent import AgentParts, SiteAgent
from client.agent.startup import load
from client.agent.state import StateFolder, state_folder
from client.agent.withdrawals import ConsentingTrainer
from client.consent import withdraw
from client.data import SiteData
from client.patients import open_patients
from client.patients.lines import KEY, REGISTER
from client.trainer.loading import load_data, load_trainer
from client.training import LocalTrainer
from craftsfl.simulation.clock import SteppedClock
from craftsfl.simulation.members import SimulatedMembers
from model.digest import folder_digest
from model.layout import Layout
from privacy.errors import FederationError
from privacy.secagg import client as secagg_client
from privacy.secagg import server as secagg_server
from privacy.secagg.chain import write_rosters
from privacy.secagg.encoding import Encoding
from privacy.study.manifest import load_study
from privacy.wire.bodies import Refusal
from privacy.wire.envelope import open_envelope
from privacy.wire.reasons import Reason
from privacy.wire.secagg import MaskedInput
from server.inprocess import InProcessGrid
from server.operation import Carried, operate
from server.runs import Runs
from server.settings import load_consortium
from tests.canaries import Find, Search, plant
from tests.client.fakes import PausingClock
from tests.client.pictures import write_folder

RUN = 2**63 + 77
NODES = {"north": 2**64 - 1, "harbour": 22, "hillside": 33, "lakeside": 44}
MEMBERS = SimulatedMembers.seeded(NODES, consortium="test")
PATIENTS = 6
POLICY = """\
epsilon = 90.0
study_epsilon = 90.0
delta = 1e-5
studies = ["any"]
bases = ["any"]
mechanisms = ["local"]
min_reply_slot = 0.01
secure_aggregation = "required"
roster = "{roster}"
"""
SITE = """\
name = "{name}"
study = "../study.toml"
policy = "policy.toml"
[data]
folder = "tiles-{name}"
patient_ids_confirmed = true
[agent]
state = "state"
device = "cpu"
[identity]
key = "{name}.key"
roster = "../roster.cfl"
"""


class HurriedClock(SteppedClock):
    """Sleeping moves the time of the rounds, and lets the agents' threads train meanwhile."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        time.sleep(0.01)


class Quoting:
    """The real trainer of a hospital whose first training meets an error that quotes secrets."""

    def __init__(self, trainer: LocalTrainer, data: SiteData) -> None:
        self._trainer = trainer
        self._data = data
        self.layout: Layout = trainer.layout
        self.failed = 0

    def train(
        self,
        adapter: np.ndarray,
        *,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> np.ndarray:
        self._quote_once()
        return self.train_well(adapter, progress=progress, should_stop=should_stop)

    def clipped_sum(
        self,
        adapter: np.ndarray,
        step: int,
        *,
        progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> np.ndarray:
        self._quote_once()
        return self._trainer.clipped_sum(adapter, step, progress=progress, should_stop=should_stop)

    def _quote_once(self) -> None:
        if not self.failed:
            self.failed += 1
            tile = self._data.tiles[0]
            try:
                raise ValueError(tile.caption, tile)
            except ValueError as error:
                raise OSError(2, "No such file or directory", str(tile.path)) from error

    def train_well(self, adapter: np.ndarray, **hooks: Any) -> np.ndarray:
        return self._trainer.train(adapter, **hooks)


@dataclass
class Outside:
    """Everything that left the agents or was logged."""

    replies: list[tuple[str, bytes]] = field(default_factory=list)
    progress: list[object] = field(default_factory=list)
    records: list[logging.LogRecord] = field(default_factory=list)

    def spying(self, name: str, agent: SiteAgent) -> Callable[[bytes], bytes]:
        def handle(data: bytes) -> bytes:
            reply = agent.handle(data)
            self.replies.append((name, reply))
            return reply

        return handle

    def logged(self) -> str:
        """Every record as text: message, arguments, tracebacks and everything else it carries."""
        stream = io.StringIO()
        formatter = logging.Formatter()
        for record in self.records:
            stream.write(f"{formatter.format(record)} {record.__dict__!r}\n")
        return stream.getvalue()


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    """Sees the records of all loggers, of libraries too, whatever their handlers do with them."""
    seen = Outside()
    handled = logging.Logger.handle

    def handle(logger: logging.Logger, record: logging.LogRecord) -> None:
        seen.records.append(record)
        handled(logger, record)

    monkeypatch.setattr(logging.Logger, "handle", handle)
    before = {name: (logger.handlers, logger.propagate) for name, logger in _loggers()}
    logging.getLogger("craftsfl").setLevel(logging.DEBUG)
    yield seen
    logging.getLogger("craftsfl").setLevel(logging.NOTSET)
    for name, logger in _loggers():  # the agents have silenced libraries
        logger.handlers, logger.propagate = before.get(name, ([], True))


def _loggers() -> list[tuple[str, logging.Logger]]:
    known = logging.Logger.manager.loggerDict.items()
    return [(name, logger) for name, logger in known if isinstance(logger, logging.Logger)]


@pytest.fixture
def coordinator(tmp_path: Path, tinier_base: Path, study_values: dict[str, Any]) -> Path:
    """The study and the consortium's settings; returns consortium.toml."""
    study_values["base"] = {"digest": folder_digest(tinier_base), "source": str(tinier_base)}
    study_values["cohort"] = {"min_sites": 3, "round_deadline": 1e6, "reply_slot": 0.05}
    write_rosters(tmp_path / "roster.cfl", [MEMBERS.signed])
    study_values["aggregation"]["secure_aggregation"] = "required"
    table = {"roster": MEMBERS.roster.digest().hex(), "bound": 1.0, "exchange_deadline": 1e5}
    study_values["secure_aggregation"] = table
    study_values["sites"].append({"name": "lakeside"})
    study_values["training"] |= {"noise_multiplier": 2.0, "draws_per_tile": 1}
    study_values["samples"] |= {"steps": 1}
    for site in study_values["sites"]:
        site["declared_patients"] = PATIENTS
    (tmp_path / "study.toml").write_text(tomli_w.dumps(study_values), "utf-8")
    file = tmp_path / "coordinator" / "consortium.toml"
    file.parent.mkdir()
    places = 'study = "../study.toml"\nstate = "state"\nroster = "../roster.cfl"\n'
    file.write_text(places + "join_deadline = 20.0\n", "utf-8")
    return file


def _write_site(folder: Path, name: str) -> set[str | bytes]:
    write_folder(folder / f"tiles-{name}", patients=PATIENTS)
    policy = POLICY.format(roster=MEMBERS.roster.digest().hex())
    (folder / "policy.toml").write_text(policy, "utf-8")
    (folder / "site.toml").write_text(SITE.format(name=name), "utf-8")
    MEMBERS.write_key(name, folder / f"{name}.key")
    pem = MEMBERS.identities[name].pem(None)
    private = base64.b64decode(pem.splitlines()[1])[-32:]
    return plant(folder / f"tiles-{name}") | {private, pem.splitlines()[1]}


def _agent(folder: Path, name: str, outside: Outside, stack: ExitStack) -> SiteAgent:
    """As `client.agent.__main__` puts it together, without the socket."""
    site = load(folder / "site.toml")
    state: StateFolder = stack.enter_context(state_folder(site.settings.agent.state))
    ledger = stack.enter_context(open_ledger(state, name, site.own, site.charge))
    patients = stack.enter_context(open_patients(state.path))
    data = load_data(site, state, patients)
    trainer: Any = load_trainer(site, data, state, lambda done, total: None)
    if name == "hillside":
        trainer = Quoting(trainer, data)
    trainer = ConsentingTrainer(trainer, data, patients, state.cache)
    progress = ProgressSource()
    publish = progress.publish
    progress.publish = lambda event: (outside.progress.append(event), publish(event))[1]
    parts = AgentParts(site.rules, ledger, trainer, progress, PausingClock())
    agent = ReadyAgent(parts, site.membership).make()
    stack.callback(agent.stop, 30.0)
    return agent


def _withdraw_one(folder: Path) -> None:
    """A patient withdraws while the agent runs; its log will name the line."""
    with (folder / "tiles-north" / "metadata.csv").open(newline="", encoding="utf-8") as stream:
        patient = next(csv.DictReader(stream))["patient_id"]
    withdraw(folder / "site.toml", patient)


def _site_lines(folder: Path) -> set[bytes]:
    """The keyed hashes by which a site knows its patients and their tiles, and their key."""
    with closing(sqlite3.connect(folder / "state" / REGISTER)) as database:
        lines = database.execute("SELECT id FROM line UNION SELECT name FROM tile").fetchall()
    return {(folder / "state" / KEY).read_bytes(), *(bytes(line) for (line,) in lines)}


@dataclass(frozen=True)
class Scene:
    """The coordinator's settings, a place next to it for the hospitals, and what is seen."""

    coordinator: Path
    outside: Outside
    capture: pytest.CaptureFixture[str]

    def run(self) -> list[Find]:
        """A whole run; returns every secret that was found outside the hospitals."""
        secrets: set[str | bytes] = set()
        settings, clock = load_consortium(self.coordinator), HurriedClock(time.time())
        with ExitStack() as stack:
            handlers = {}
            for name, node in NODES.items():
                folder = self.coordinator.parent.parent / name
                secrets |= _write_site(folder, name)
                agent = _agent(folder, name, self.outside, stack)
                handlers[node] = self.outside.spying(name, agent)
                secrets |= _site_lines(folder)
            _withdraw_one(self.coordinator.parent.parent / "north")
            grid = InProcessGrid(handlers, run_id=RUN, clock=clock.monotonic)
            with Runs(settings.database_url(), clock) as runs:
                name = runs.begin(load_study(settings.study))
            with suppress(FederationError):  # where nobody masks, there is no sum
                operate(settings, Carried(name.number, RUN), grid, clock=clock)
        return self._leaks(Search(secrets))

    def _leaks(self, search: Search) -> list[Find]:
        outside, printed = self.outside, self.capture.readouterr()
        files, leaks = search.folder(self.coordinator.parent)
        assert files >= 5  # settings, store, events, MLflow, checkpoints, and more of a whole run
        leaks += [find for name, reply in outside.replies for find in search.bytes(reply, name)]
        for where, text in (
            ("progress", repr(outside.progress)),
            ("logs", outside.logged()),
            ("terminal", printed.out + printed.err),
        ):
            leaks += search.bytes(text.encode("utf-8", "backslashreplace"), where)
        return leaks


@pytest.fixture
def scene(
    coordinator: Path, outside: Outside, empty_mlflow: bytes, capfd: pytest.CaptureFixture[str]
) -> Scene:
    (coordinator.parent / "state").mkdir()
    (coordinator.parent / "state" / "mlflow.db").write_bytes(empty_mlflow)
    return Scene(coordinator, outside, capfd)


def test_no_planted_secret_leaves_a_hospital(scene: Scene) -> None:
    leaks = scene.run()
    _check_that_much_happened(scene.outside, scene.coordinator.parent.parent / "study.toml")
    assert leaks == []


@pytest.mark.slow
@pytest.mark.ci
def test_a_leaking_boundary_is_caught(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter-check: errors logged with their text, and a caption in lanes without masks."""
    monkeypatch.setattr(boundary, "describe", lambda error: Failure(str(error)))

    captions: list[bytes] = []

    def betray(self: Quoting, adapter: np.ndarray, **_: object) -> np.ndarray:
        captions.append(self._data.tiles[0].caption.encode()[:24])
        return np.zeros_like(adapter)

    def clear(self: Encoding, vector: np.ndarray) -> np.ndarray:
        lanes = np.zeros(self.lanes, np.uint64)
        if captions:
            lanes[:3] = np.frombuffer(captions[0], np.uint64)
        return lanes

    monkeypatch.setattr(Quoting, "train_well", betray)
    monkeypatch.setattr(Encoding, "encode", clear)
    for side in (secagg_client, secagg_server):
        monkeypatch.setattr(side, "apply_masks", lambda lanes, seeds: None)
    where = {find.where for find in scene.run()}
    assert {"hillside", "logs"} <= where


def _check_that_much_happened(outside: Outside, study_file: Path) -> None:
    """Updates left all hospitals, one failed over an error that quoted secrets, and was logged."""
    bodies = [(name, open_envelope(reply, limit=1 << 24).body) for name, reply in outside.replies]
    updates = [name for name, body in bodies if isinstance(body, MaskedInput)]
    rounds = load_study(study_file).rounds
    assert {name: updates.count(name) for name in NODES} == {
        "north": rounds,
        "harbour": rounds,
        "hillside": rounds - 1,
        "lakeside": rounds,
    }
    refused = [name for name, body in bodies if isinstance(body, Refusal)]
    assert refused == ["hillside"]
    assert next(body for _, body in bodies if isinstance(body, Refusal)) == Refusal(
        Reason.NO_UPDATE
    )
    assert "FileNotFoundError at" in outside.logged()
    assert "not used: 3" in outside.logged()
    assert "Withdrawn, and out of every draw" in outside.logged()

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tomli_w
from flwr.app import Context, RecordDict

import server.app
from craftsfl.simulation.clock import SteppedClock
from model.adapters import layout_of, load_adapter
from model.digest import folder_digest
from model.layout import initial_vector
from privacy.errors import ConfigError, FederationError, ModelError, SecAggError
from privacy.secagg.chain import write_chain
from privacy.secagg.roster import SignedRoster, sign
from privacy.study.manifest import Study, load_study
from privacy.wire.bodies import Refusal
from privacy.wire.reasons import Reason
from server.clock import Timing
from server.inprocess import InProcessGrid
from server.operation import Operation, load_roster, operate
from server.settings import ConsortiumSettings, load_consortium
from server.status import read_status
from server.tables import RunState
from tests.server.fakes import NODES, RUN, FakeSite
from tests.server.masked import masked_study, members_of

Events = Callable[[str], list[dict[str, Any]]]


def drawn(base: Path, adapter: Path, samples: Any, out: Path, device: Any) -> None:
    """Instead of sampling, which has a test of its own."""
    assert adapter.exists()
    out.write_bytes(b"picture of " + samples.prompts[0].encode())


class Desk:
    """Files of a consortium around a tiny base, and sites that answer for it."""

    def __init__(self, folder: Path, base: Path, values: dict[str, Any]) -> None:
        values["base"] = {"digest": folder_digest(base), "source": str(base)}
        (folder / "study.toml").write_text(tomli_w.dumps(values), "utf-8")
        self.file = folder / "consortium.toml"
        self.file.write_text('study = "study.toml"\nstate = "."\njoin_deadline = 20.0\n', "utf-8")
        self.settings = load_consortium(self.file)
        self.study: Study = load_study(self.settings.study)
        self.layout = layout_of(base, self.study.adapter)
        self.sites = {name: FakeSite(name, self.study, layout=self.layout) for name in NODES}
        self.handlers = {NODES[name]: site.handle for name, site in self.sites.items()}
        self.clock = SteppedClock()

    def grid(self) -> InProcessGrid:
        return InProcessGrid(self.handlers, run_id=RUN, clock=self.clock.monotonic)

    def operation(self) -> Operation:
        return Operation(self.settings, RUN, self.grid(), self.clock, Timing(join=20.0), plain=True)

    def result(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.settings.result_file().read_text("utf-8"))
        return content


@pytest.fixture
def desk(
    tmp_path: Path,
    tiny_base: Path,
    study_values: dict[str, Any],
    empty_mlflow: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    (tmp_path / "mlflow.db").write_bytes(empty_mlflow)
    module = ModuleType("server.samples")
    module.draw_samples = drawn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "server.samples", module)
    return Desk(tmp_path, tiny_base, study_values)


def test_a_run_leaves_everything_that_its_result_names(desk: Desk, events: Events) -> None:
    operate(desk.operation())
    result = desk.result()
    assert (result["study"], result["run"], result["state"]) == ("test-study", str(RUN), "finished")
    assert (result["rounds"], result["parameters"]) == (2, desk.layout.parameters)
    saved = load_adapter(Path(result["adapter"]))
    start = initial_vector(desk.layout, desk.study.digest())
    np.testing.assert_allclose(saved.vector, start + 2.0, rtol=1e-5)
    assert Path(result["samples"]).read_bytes() == b"picture of glands"
    assert Path(result["mlflow"].removeprefix("sqlite:///")).exists()
    assert result["model_version"] == "1"
    assert result["warnings"] == []
    north = next(site for site in result["sites"] if site["name"] == "north")
    expected = {"patients": 500, "rounds": 2, "epsilon": 1.0, "budget": 8.0, "masked": False}
    assert expected.items() <= north.items()
    phases = {"joining", "loading", "training", "aggregation", "samples", "tracking"}
    assert phases == set(result["timings"])
    assert read_status(desk.settings.database_url()).state is RunState.FINISHED
    assert events("run-finished")[0]["adapter"] == result["adapter"]


def test_no_privacy_is_null_in_json(desk: Desk) -> None:
    for site in desk.sites.values():
        site.epsilon = float("inf")
    operate(desk.operation())
    assert {site["epsilon"] for site in desk.result()["sites"]} == {None}


def test_mlflow_out_of_reach_is_a_warning(desk: Desk, events: Events) -> None:
    Path(desk.settings.mlflow_uri().removeprefix("sqlite:///")).write_bytes(b"no database" * 99)
    operate(desk.operation())
    result = desk.result()
    assert result["model_version"] is None
    assert "[tracking]" in result["warnings"][0]
    assert "[tracking]" in events("warning")[0]["reason"]
    assert read_status(desk.settings.database_url()).state is RunState.FINISHED


def test_a_failure_is_written_down_before_it_goes_on(desk: Desk, events: Events) -> None:
    for site in desk.sites.values():
        site.start_refusal = Refusal(Reason.NO_UPDATE)
    with pytest.raises(FederationError):
        operate(desk.operation())
    status = read_status(desk.settings.database_url())
    assert status.state is RunState.FAILED
    assert "Round 1 of 2 failed" in status.message
    (failed,) = events("run-failed")
    assert "The site had no update" in failed["reason"]
    assert "craftsfl rounds start" in failed["hint"]
    assert not desk.settings.result_file().exists()


def test_a_missing_study_is_written_down_too(desk: Desk) -> None:
    desk.settings.study.unlink()
    with pytest.raises(ConfigError):
        operate(desk.operation())
    status = read_status(desk.settings.database_url(), RUN)
    assert (status.state, "does not exist" in status.message) == (RunState.FAILED, True)


def test_a_wrong_base_digest_ends_the_run(desk: Desk, tmp_path: Path) -> None:
    text = (tmp_path / "study.toml").read_text("utf-8")
    (tmp_path / "study.toml").write_text(
        text.replace(desk.study.base.digest[-8:], "0" * 8), "utf-8"
    )
    with pytest.raises(ModelError, match="digest"):
        operate(desk.operation())


def test_the_text_of_a_defect_goes_to_no_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(sys.modules["server.samples"], "draw_samples", broken)
    with pytest.raises(RuntimeError):
        operate(desk.operation())
    status = read_status(desk.settings.database_url())
    assert status.state is RunState.FAILED
    assert "a secret" not in status.message + str(events("run-failed"))


def context(settings: str) -> Context:
    return Context(RUN, 1, {}, RecordDict(), {"settings": settings} if settings else {})


class Exited(Exception):
    """Instead of Flower ending the process."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []

    def exit_(code: int, message: str, *, emit_telemetry: bool) -> None:
        assert not emit_telemetry
        texts.append(message)
        raise Exited

    monkeypatch.setattr(server.app, "flwr_exit", exit_)
    return texts


def test_the_app_ends_with_words_and_no_traceback(
    desk: Desk, exits: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    desk.settings.study.unlink()
    with caplog.at_level(logging.ERROR), pytest.raises(Exited):
        server.app.app(desk.grid(), context(str(desk.file)))
    assert "does not exist" in exits[0]
    assert "Traceback" not in caplog.text


def test_the_app_needs_a_settings_file(desk: Desk, exits: list[str]) -> None:
    with pytest.raises(Exited):
        server.app.app(desk.grid(), context(""))
    assert "names no settings file" in exits[0]


def test_the_app_passes_flowers_run_id_on(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Operation] = []
    monkeypatch.setattr(server.app, "operate", seen.append)
    server.app.app(desk.grid(), context(str(desk.file)))
    assert (seen[0].run, seen[0].timing.join) == (RUN, 20.0)


def test_a_plain_study_runs_in_one_process_only(desk: Desk, events: Events) -> None:
    with pytest.raises(ConfigError, match="does without secure aggregation"):
        operate(replace(desk.operation(), plain=False))
    assert [event["reason"] for event in events("run-failed")] == [
        "The study test-study does without secure aggregation."
    ]
    assert desk.sites["north"].asked == []


def test_a_masked_study_needs_its_signed_roster(
    tmp_path: Path, study_values: dict[str, Any]
) -> None:
    names = ["north", "harbour", "hillside"]
    members = members_of(names)
    roster = members.roster
    study = masked_study(study_values, 3, roster)
    settings = ConsortiumSettings(study=tmp_path / "study.toml", state=tmp_path)
    with pytest.raises(ConfigError, match="needs the consortium's roster"):
        load_roster(settings, study)
    file = tmp_path / "roster.cfl"
    signed = SignedRoster(roster)
    write_chain(file, [signed])
    named = settings.model_copy(update={"roster": file})
    with pytest.raises(SecAggError, match="0 of 2 signatures"):
        load_roster(named, study)
    for name in names[:2]:
        signed = sign(signed, members.identities[name], None)
    write_chain(file, [signed])
    assert load_roster(named, study) == roster
    other = masked_study(study_values, 3, members_of(["north", "harbour", "valley"]).roster)
    with pytest.raises(SecAggError, match="does not hold the roster"):
        load_roster(named, other)

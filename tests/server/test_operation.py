from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

import server.app
from model.adapters import load_adapter
from model.layout import initial_vector
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, FederationError, ModelError, SecAggError
from privacy.secagg.chain import write_rosters
from privacy.secagg.roster import SignedRoster, add_signature
from privacy.wire.bodies import Refusal
from privacy.wire.reasons import Reason
from server import life
from server.inprocess import InProcessGrid
from server.life import RunInterrupted
from server.operation import Carried, operate
from server.readiness import load_roster
from server.runs import Runs
from server.settings import ConsortiumSettings
from server.status_reader import read_status
from server.tables import ENDED, AttemptState, RunState, Wish
from tests.server.fakes import FLOWER_RUN, RUN, WaitsForEver
from tests.server.masked import masked_study, members_of
from tests.server.office import LostGrid, Office, office, unauthorised

__all__ = ["office"]  # the fixture

Events = Callable[[str], list[dict[str, Any]]]


def test_a_run_leaves_everything_that_its_result_names(office: Office, events: Events) -> None:
    office.operate()
    result = office.result()
    assert (result["study"], result["run"], result["state"]) == ("test-study", str(RUN), "finished")
    assert (result["rounds"], result["parameters"]) == (2, office.layout.parameters)
    saved = load_adapter(Path(result["adapter"]))
    start = initial_vector(office.layout, office.study.digest())
    np.testing.assert_allclose(saved.vector, start + 2.0, rtol=1e-5)
    assert Path(result["samples"]).read_bytes() == b"picture of glands"
    assert Path(result["mlflow"].removeprefix("sqlite:///")).exists()
    assert result["model_version"] == "1"
    assert result["warnings"] == []
    north = next(site for site in result["sites"] if site["name"] == "north")
    expected = {"patients": 500, "rounds": 2, "budget": 8.0, "masked": True}
    assert expected.items() <= north.items()
    assert north["epsilon"] > 0
    phases = {"joining", "loading", "training", "aggregation", "samples", "tracking"}
    assert phases == {name for name in result["timings"] if not name.startswith("exchange: ")}
    assert read_status(office.settings.database_url()).state is RunState.FINISHED
    assert events("run-finished")[0]["adapter"] == result["adapter"]


def test_no_privacy_is_null_in_json(office: Office) -> None:
    for site in office.sites.values():
        site.facts = {"epsilon_spent": float("inf")}
    office.operate()
    assert {site["epsilon"] for site in office.result()["sites"]} == {None}


def test_mlflow_out_of_reach_is_a_warning(office: Office, events: Events) -> None:
    Path(office.settings.mlflow_uri().removeprefix("sqlite:///")).write_bytes(b"no database" * 99)
    office.operate()
    result = office.result()
    assert result["model_version"] is None
    assert "[tracking]" in result["warnings"][0]
    assert "[tracking]" in events("warning")[0]["reason"]
    assert read_status(office.settings.database_url()).state is RunState.FINISHED


def test_a_failure_is_written_down_before_it_goes_on(office: Office, events: Events) -> None:
    for site in office.sites.values():
        site.start_refusal = Refusal(Reason.NO_UPDATE)
    with pytest.raises(FederationError):
        office.operate()
    status = read_status(office.settings.database_url())
    assert status.state is RunState.FAILED
    assert "Round 1 of 2 failed" in status.message
    assert status.failure is not None
    assert "Round 1 of 2 failed" in status.failure.message
    assert "craftsfl rounds start" in status.failure.hint
    assert "craftsfl rounds start" not in status.failure.message
    assert status.failure.error == ErrorId.ROUND_FAILED
    (failed,) = events("run-failed")
    assert "The site had no update" in failed["reason"]
    assert "craftsfl rounds start" in failed["hint"]
    assert failed["error"] == "round-failed"
    assert not office.settings.result_file().exists()


def test_a_missing_study_is_written_down_too(office: Office) -> None:
    office.settings.study.unlink()
    with pytest.raises(ConfigError):
        office.operate()
    status = read_status(office.settings.database_url(), RUN)
    assert (status.state, "does not exist" in status.message) == (RunState.FAILED, True)


def test_a_wrong_base_digest_ends_the_run(office: Office, tmp_path: Path) -> None:
    text = (tmp_path / "study.toml").read_text("utf-8")
    (tmp_path / "study.toml").write_text(
        text.replace(office.study.base.digest[-8:], "0" * 8), "utf-8"
    )
    office.begin_anew()
    with pytest.raises(ModelError, match="digest"):
        office.operate()


def test_the_text_of_a_defect_goes_to_no_file(
    office: Office, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(sys.modules["server.samples"], "draw_samples", broken)
    with pytest.raises(RuntimeError):
        office.operate()
    status = read_status(office.settings.database_url())
    assert status.state is RunState.FAILED
    assert "a secret" not in str(status) + str(events("run-failed"))
    assert status.failure is not None and status.failure.error == ErrorId.INTERNAL


def context(settings: str) -> Context:
    config = {"settings": settings, "run": RUN} if settings else {}
    return Context(FLOWER_RUN, 1, {}, RecordDict(), config)


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
    office: Office, exits: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    office.settings.study.unlink()
    with caplog.at_level(logging.ERROR), pytest.raises(Exited):
        server.app.app(office.grid(), context(str(office.file)))
    assert "does not exist" in exits[0]
    assert "Traceback" not in caplog.text


def test_the_app_needs_a_settings_file(office: Office, exits: list[str]) -> None:
    with pytest.raises(Exited):
        server.app.app(office.grid(), context(""))
    assert "does not name a settings file" in exits[0]


def test_the_app_says_which_run_it_carries(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Carried] = []

    def operate(settings: ConsortiumSettings, carried: Carried, grid: InProcessGrid) -> None:
        seen.append(carried)

    monkeypatch.setattr(server.app, "operate", operate)
    server.app.app(office.grid(), context(str(office.file)))
    assert seen == [Carried(RUN, FLOWER_RUN)]


def test_the_settings_say_how_long_sites_may_take_to_join(office: Office) -> None:
    office.handlers.clear()
    with pytest.raises(WaitsForEver):
        office.operate()
    assert read_status(office.settings.database_url()).phases["joining"] == pytest.approx(20, abs=1)


def test_a_stored_run_of_a_plain_study_can_be_read_and_ended_but_not_served(office: Office) -> None:
    """The mode is gone: what an older craftsfl has stored stays readable."""
    with pytest.raises(RunInterrupted):
        office.operate_until(3)
    whole = office.settings.study.read_text("utf-8")
    office.settings.study.write_text(whole.replace('"required"', '"plain"'), "utf-8")
    before = read_status(office.settings.database_url())
    with pytest.raises(RunInterrupted, match=r'"plain" is no longer a mode.*rounds stop'):
        office.operate()
    after = read_status(office.settings.database_url())
    assert after.history == before.history
    with Runs(office.settings.database_url(), office.clock) as runs:
        runs.stopped(office.name)
    assert read_status(office.settings.database_url()).state is RunState.STOPPED


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
    write_rosters(file, [signed])
    named = settings.model_copy(update={"roster": file})
    with pytest.raises(SecAggError, match="0 of 2 signatures"):
        load_roster(named, study)
    for name in names[:2]:
        signed = add_signature(signed, members.identities[name], None)
    write_rosters(file, [signed])
    assert load_roster(named, study) == roster
    other = masked_study(study_values, 3, members_of(["north", "harbour", "valley"]).roster)
    with pytest.raises(SecAggError, match="does not hold the roster"):
        load_roster(named, other)


@pytest.mark.parametrize(
    ("calls", "error"),
    [(0, unauthorised()), (2, httpx.ConnectError("refused")), (4, unauthorised())],
)
def test_a_run_outlives_the_flower_run_that_carried_it(
    office: Office, events: Events, calls: int, error: httpx.HTTPError
) -> None:
    grid = LostGrid(office, calls, error)
    with pytest.raises(RunInterrupted, match="no longer serves this ServerApp"):
        operate(office.settings, Carried(RUN, 1), grid, clock=office.clock)
    status = read_status(office.settings.database_url())
    assert status.state not in ENDED
    assert "no longer serves this ServerApp" in status.last_words
    assert events("run-failed") == []
    office.clock.sleep(1)
    operate(office.settings, Carried(RUN, 2), office.grid(), clock=office.clock)
    status = read_status(office.settings.database_url())
    assert (status.state, status.flower_run) == (RunState.FINISHED, 2)
    finished = [item.round for item in status.history if item.state is AttemptState.FINISHED]
    assert finished == [1, 2]
    assert [event["round"] for event in events("round-finished")] == [1, 2]
    (charged,) = {len(site.trained) for site in office.sites.values()}
    assert charged == 2 or len(status.history) == charged == 3  # one was lost after its slot
    assert len(events("run-interrupted")) == 1


def test_a_study_that_is_edited_under_way_interrupts_its_run(office: Office) -> None:
    with pytest.raises(RunInterrupted):
        office.operate_until(3)
    text = office.settings.study.read_text("utf-8")
    office.settings.study.write_text(text.replace("rounds = 2", "rounds = 3"), "utf-8")
    with pytest.raises(RunInterrupted, match="not the study file") as edited:
        office.operate()
    assert edited.value.id == ErrorId.STUDY_CHANGED
    office.settings.study.unlink()
    with pytest.raises(RunInterrupted, match="does not exist"):
        office.operate()
    assert "does not exist" in read_status(office.settings.database_url()).last_words
    office.settings.study.write_text(text, "utf-8")
    office.operate()
    assert read_status(office.settings.database_url()).state is RunState.FINISHED


def test_a_stopped_run_ends_without_an_error(office: Office, events: Events) -> None:
    with Runs(office.settings.database_url(), office.clock) as runs:
        runs.ask(office.name, Wish.STOP)
    office.operate()
    assert read_status(office.settings.database_url()).state is RunState.STOPPED
    assert [event["rounds_done"] for event in events("run-stopped")] == [0]
    assert not office.settings.result_file().exists()
    with pytest.raises(RunInterrupted, match="is not open"):
        office.operate()


def test_a_run_that_was_not_begun_here_is_not_served(office: Office) -> None:
    carried = Carried(RUN + 1, FLOWER_RUN)
    with pytest.raises(RunInterrupted, match="Run 6 is not open at this coordinator"):
        operate(office.settings, carried, office.grid(), clock=office.clock)
    assert not office.settings.events_file().exists()
    assert office.sites["north"].asked == []


def test_a_second_serverapp_ends_without_doing_anything(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "_PATIENCE_SECONDS", 0.2)
    lock = life.serving(office.settings.lock_file(), RUN, 1)
    with lock, pytest.raises(RunInterrupted, match="Another ServerApp serves"):
        office.operate()
    assert office.sites["north"].asked == []
    assert read_status(office.settings.database_url()).last_words == ""


class RestartedGrid(InProcessGrid):
    """A grid whose SuperLink is restarted while the message `number` is pushed."""

    def __init__(self, office: Office, number: int) -> None:
        super().__init__(office.handlers, run_id=FLOWER_RUN, clock=office.clock.monotonic)
        self.number = number

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.number -= 1
        if self.number == 0:
            raise ObjectPushError("00", FLOWER_RUN, "session")
        return super().push_messages(messages)


@pytest.mark.parametrize("number", [1, 5])
def test_a_superlink_that_is_restarted_in_a_push_costs_one_message(
    office: Office, events: Events, number: int
) -> None:
    grid = RestartedGrid(office, number)
    operate(office.settings, Carried(RUN, 1), grid, clock=office.clock)
    assert read_status(office.settings.database_url()).state is RunState.FINISHED
    assert events("site-dropped") == []

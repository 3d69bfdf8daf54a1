"""A hospital's desk: status, pause, resume, leave, reload, log, doctor; with and without agent."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from client.agent.in_force import InForce, policy_digest
from client.agent.own_ledger import open_ledger
from client.agent.requests import RequestLog
from client.agent.startup import load_rules
from client.agent.state import StateFolder
from client.agent.wishes import SiteWish, WishFile
from craftsfl.cli import app
from craftsfl.site.desk.doctor import error_ids_in, kept_files
from craftsfl.site.desk.standing import SiteStanding, standing_of
from craftsfl.site.desk.status import status_lines
from privacy.errors import ConfigError, PolicyError
from privacy.files import lock
from privacy.ledger import AttemptKey, load_or_make_key
from privacy.wire.bodies import Refusal, RunOver
from privacy.wire.reasons import Reason
from tests.client.fakes import RUN, hello, message
from tests.client.hospital import Hospital, write_hospital
from tests.client.masked import keyed
from tests.client.studies import make_study


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site whose agent has charged one attempt, lost one, refused one, and is down."""
    toml = write_hospital(tmp_path)
    rules = load_rules(toml).rules
    state = StateFolder(tmp_path / "state")
    state.path.mkdir(mode=0o700)
    with open_ledger(state, "north", keyed(tmp_path)) as ledger:
        key = load_or_make_key(state.ledger_key)
        log = RequestLog(state.requests, key, lambda: ledger.head().sequence, time.time)
        log.record(message(hello(), round=0, attempt=0), message(RunOver(), round=0, attempt=0))
        for round in (1, 2):
            attempt = AttemptKey(rules.study.digest(), RUN, round, 1)
            ledger.intent(attempt, rules.charges.charge)
            log.record(message(RunOver(), round=round), message(RunOver(), round=round))
            if round == 1:
                ledger.commit(attempt)
        log.record(message(hello(), round=3), message(Refusal(Reason.POLICY), round=3))
    return toml


def run(*words: str | Path, status: int = 0) -> str:
    done = CliRunner().invoke(app, ["site", *map(str, words)])
    assert done.exit_code == status, (done.output, done.exception)
    return done.output


def text_of(found: SiteStanding) -> str:
    console = Console(width=300, record=True, file=io.StringIO())
    for line in status_lines(found):
        console.print(line)
    return console.export_text()


def test_a_status_without_an_agent_says_so_and_all_the_rest(site: Path) -> None:
    text = text_of(standing_of(site))
    assert "No agent runs here. Start it: craftsfl site serve" in text
    assert "1 of 6 attempts charged, 5 attempts left" in text
    assert "of 20 used" in text
    assert "The site's policy does not allow this." in text
    assert "no [gateway]" in text


def test_a_status_as_a_program_reads_it(site: Path) -> None:
    values = json.loads(run("status", site, "--json"))
    assert values["agent"] is False
    assert values["wish"] == "run"
    assert values["budget"]["attempts_charged"] == 1
    assert values["refused"][0]["reason"] == "POLICY"
    assert values["notes"] == []


def test_pause_leave_and_resume_are_kept_and_say_what_they_mean(site: Path) -> None:
    wish = WishFile(site.parent / "state" / "wish.json")
    assert "taking part already" in run("resume", site)
    assert "also after a restart" in run("pause", site)
    assert wish.read() is SiteWish.PAUSE
    assert "craftsfl site resume" in text_of(standing_of(site))
    assert "takes part again" in run("resume", site)
    words = run("leave", site)
    assert "ledger.sqlite" in words
    assert "site.key" in words
    assert wish.read() is SiteWish.LEAVE
    assert "may have gone on" in run("resume", site)


def test_no_agent_has_run_here(tmp_path: Path) -> None:
    toml = write_hospital(tmp_path)
    for command in ("pause", "leave", "resume"):
        done = CliRunner().invoke(app, ["site", command, str(toml)])
        assert "no agent has run here" in str(done.exception)
    with pytest.raises(ConfigError, match="no log"):
        CliRunner().invoke(app, ["site", "log", str(toml)], catch_exceptions=False)
    assert "0 of 6 attempts charged" in text_of(standing_of(toml))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for another user")
def test_a_wish_that_root_writes_can_be_read_by_the_agents_user(site: Path) -> None:
    state = site.parent / "state"
    os.chown(state, 61001, 61001)
    file = WishFile(state / "wish.json")
    file.write(SiteWish.PAUSE)
    assert file.path.stat().st_uid == 61001


def test_a_reload_checks_the_files_first(site: Path) -> None:
    state, policy = site.parent / "state", site.parent / "policy.toml"
    assert "No agent runs here" in run("reload", site)
    held = lock(state / "agent.lock")  # as if one did
    try:
        digest = load_rules(site).rules.study.digest().hex()
        InForce(policy_digest(policy), digest, 1.8e9, "0.1.0").write(state / "in-force.json")
        assert "has changed since it started" in run("reload", site)
        assert (state / "reload").exists()
        (state / "reload").unlink()
        before = policy.read_text()
        for edit, error in (("delta = x", ConfigError), ("max_rounds = 1", PolicyError)):
            policy.write_text(f"{before}{edit}\n")
            with pytest.raises(error):
                CliRunner().invoke(app, ["site", "reload", str(site)], catch_exceptions=False)
            assert not (state / "reload").exists()
        policy.write_text(before.replace("study_epsilon = 20.0", "study_epsilon = 1.0"))
        with pytest.raises(PolicyError, match="cannot end here"):
            CliRunner().invoke(app, ["site", "reload", str(site)], catch_exceptions=False)
        policy.write_text(f"{before}max_rank = 32\n")
        assert "craftsfl site reload" in " ".join(standing_of(site, patience=0).notes)
        assert "The agent reads them once" in run("reload", site)
        assert "starts again" in " ".join(standing_of(site, patience=0).notes)
    finally:
        os.close(held)


def test_the_log_tells_who_asked_what_and_that_it_is_whole(site: Path) -> None:
    text = run("log", site)
    assert "whether the site takes part" in text
    assert "refused: The site's policy does not allow this." in text
    head = text.partition("The newest is ")[2].partition(";")[0]
    assert f"Record {head} is still in the log" in run("log", site, "--head", head)
    assert len(json.loads(run("log", site, "--json", "--last", "2"))) == 2
    log = site.parent / "state" / "requests.log"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]))
    with pytest.raises(Exception, match="which you noted, is not in it"):
        CliRunner().invoke(app, ["site", "log", str(site), "--head", head], catch_exceptions=False)
    log.write_text("".join(lines[:1]))  # what was charged was asked for
    with pytest.raises(Exception, match="charged 1 attempts of which it holds no request"):
        CliRunner().invoke(app, ["site", "log", str(site)], catch_exceptions=False)
    assert "charged 1 attempts" in " ".join(standing_of(site).notes)
    log.write_text("".join([lines[0], *lines[2:]]))
    with pytest.raises(Exception, match="does not follow"):
        CliRunner().invoke(app, ["site", "log", str(site)], catch_exceptions=False)


def test_the_doctor_names_what_may_go_and_shows_the_bundle_before_it_is_written(
    site: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "support.json"
    command = ["site", "doctor", str(site), "--bundle", str(bundle)]
    refused = CliRunner().invoke(app, command, input="n\n")
    assert "ledger.sqlite" in refused.output
    assert not bundle.exists()
    done = CliRunner().invoke(app, command, input="y\n")
    assert done.exit_code == 0, done.output
    facts = json.loads(bundle.read_text())
    shown = done.output.partition("nothing else\n")[2].partition("\nWrite exactly")[0]
    assert json.loads(shown) == facts
    assert facts["refusals"] == {"POLICY": 1}
    assert facts["findings"] == ["base"] or "base" not in facts["findings"]
    text = bundle.read_text()
    for secret in (str(tmp_path), "north", "canary", make_study().digest().hex()):
        assert secret not in text
    assert bundle.stat().st_mode & 0o777 == 0o600


def test_what_may_be_deleted_is_what_is_made_again(site: Path) -> None:
    from client.settings import load_site

    deletable = {kept.path.name for kept in kept_files(load_site(site)) if kept.deletable}
    state = site.parent / "state"
    precious = {path.name for path in state.iterdir() if path.name.startswith("ledger")}
    assert precious
    assert deletable.isdisjoint({*precious, "site.key", "site.key.ledger", "wish.json"})


def test_of_a_log_only_known_ids_reach_support(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    log.write_text("Id: base-missing (docs/errors.md)\nId: canary (x)\nError: canary\nId: policy\n")
    assert error_ids_in(log) == ["base-missing", "policy"]
    assert error_ids_in(tmp_path / "none") == []


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    hospital = Hospital(tmp_path)
    yield hospital
    if hospital.process is not None and hospital.process.poll() is None:
        hospital.process.kill()
        hospital.process.wait()


def test_a_status_beside_a_real_agent(hospital: Hospital) -> None:
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    found = standing_of(hospital.site, patience=30)
    assert found.alive
    assert found.now.phase == "ready"
    assert "The agent runs: ready." in text_of(found)
    assert "NEVER" in run("doctor", hospital.site)
    run("pause", hospital.site)
    assert hospital.ask(message(hello(make_study()))) == Refusal(Reason.PAUSED)
    after = standing_of(hospital.site, patience=0.1)
    assert [record.request.reason for record in after.refused] == ["PAUSED"]
    assert hospital.terminate() == 0

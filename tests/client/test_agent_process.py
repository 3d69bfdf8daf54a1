"""The agent as a process: start-up, refusals in plain words, signals. The trainer is a fake."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import client.agent.__main__ as agent_main
from client.agent.__main__ import run_agent
from client.agent.in_force import read_in_force
from client.agent.isolation import Confinement, NetworkAccess
from client.agent.reload import ask_to_reload
from client.agent.requests import read_requests
from client.agent.state import state_folder
from client.agent.wishes import SiteWish, WishFile
from client.policy import SiteRules
from client.trainer.process import HANGUP_SECONDS, Nursery
from privacy.errors import PolicyError
from privacy.ledger import State, read_ledger
from privacy.secagg.chain import write_rosters
from privacy.secagg.roster import SignedRoster
from privacy.secagg.server import Stage
from privacy.wire.bodies import Refusal, SignedFacts
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise
from tests.privacy.ledger.ledgers import spent_by

from .agent_process import FAKE_TRAINER
from .fakes import hello, message
from .hospital import ROOT, Hospital, write_hospital
from .masked import IDENTITIES, SIGNED, MaskedAttempt
from .pictures import write_csv, write_folder
from .studies import ROSTER, make_study


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    hospital = Hospital(tmp_path)
    yield hospital
    if hospital.process is not None and hospital.process.poll() is None:
        hospital.process.kill()
        hospital.process.wait()


def test_a_site_serves_a_round_and_logs_no_health_data(hospital: Hospital) -> None:
    (hospital.folder / "tiles" / "canary-file-3-1.png").write_bytes(b"broken")
    (hospital.state / "HOLD-LOADING").touch()
    hospital.start()
    hospital.wait_for((hospital.folder / "a.sock").exists)
    greeting = message(hello(make_study()))
    assert hospital.ask(greeting) == Refusal(Reason.NOT_READY)
    assert not hospital.is_serving()
    (hospital.state / "HOLD-LOADING").unlink()
    hospital.wait_for(hospital.is_serving)
    assert isinstance(hospital.ask(greeting), SignedFacts)
    attempt = MaskedAttempt()
    attempt.to(Stage.DONE, hospital)
    assert np.allclose(attempt.total(), (1 + 2 * 2 + 3 * 3) / 6, atol=5e-3)
    assert hospital.terminate() == 0
    journal = json.loads((hospital.state / "cohorts.json").read_text())
    assert journal == {attempt.study.digest().hex(): {"1": [1, 2, 3]}}
    assert "that are not used: 1; " in hospital.log
    assert "canary" not in hospital.log
    assert "canary-file-3-1.png" in (hospital.state / "quarantine.csv").read_text()
    assert not (hospital.folder / "a.sock").exists()
    assert hospital.state.stat().st_mode & 0o777 == 0o700
    ledger = read_ledger(hospital.state / "ledger.sqlite")
    assert [entry.state for entry in ledger.entries()] == [State.COMMITTED]


@pytest.mark.parametrize("hold", ["HOLD-TRAINING", "STUCK"])
def test_sigterm_while_training_ends_cleanly(hospital: Hospital, hold: str) -> None:
    (hospital.state / hold).touch()
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    assert isinstance(MaskedAttempt().ask(hospital), Advertise)
    assert hospital.terminate() == 0
    assert "Traceback" not in hospital.log
    ledger = read_ledger(hospital.state / "ledger.sqlite")
    assert [entry.state for entry in ledger.entries()] == [State.INTENT]
    assert spent_by(ledger) == 0


def test_a_patient_withdraws_while_the_agent_trains(hospital: Hospital) -> None:
    """What a person types in another process takes effect at once, and is not seen outside."""
    from client.consent import withdraw

    (hospital.state / "HOLD-TRAINING").touch()
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    greeting = message(hello(make_study()))
    assert isinstance(MaskedAttempt().ask(hospital), Advertise)
    before = hospital.ask(greeting)
    done = withdraw(hospital.site, "canary-patient-4")
    hospital.wait_for(lambda: f"out of every draw from now on: {done.name}." in hospital.log)
    assert hospital.ask(greeting) == before
    assert hospital.terminate() == 0
    assert "canary" not in hospital.log


def test_the_waits_at_the_end_leave_room_within_ten_seconds() -> None:
    assert HANGUP_SECONDS + 2 * agent_main.GRACE_SECONDS + agent_main.SIGNAL_SECONDS < 7


def test_sigterm_while_loading_ends_cleanly(hospital: Hospital) -> None:
    (hospital.state / "HOLD-LOADING").touch()
    hospital.start()
    hospital.wait_for((hospital.folder / "a.sock").exists)
    assert hospital.terminate() == 0
    assert "Traceback" not in hospital.log
    assert not (hospital.folder / "a.sock").exists()


def test_heavy_libraries_are_loaded_after_the_settings() -> None:
    code = (
        "import sys, client.agent.__main__\n"
        "heavy = ('torch', 'diffusers', 'flwr', 'pyarrow')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode().strip() == "[]"


def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this process were the agent's, which has no network and its own logs."""
    alone = Confinement(NetworkAccess.NAMESPACE, undumpable=True)
    monkeypatch.setattr(agent_main, "confinement", lambda: alone)
    monkeypatch.setattr(agent_main, "configure_logs", lambda: None)


def run_here(site: Path) -> int:
    """`run_agent`, whose nursery is a process of its own: this one has too many threads to fork."""
    ours, its = socket.socketpair()
    code = (
        "from client.agent.isolation import isolate\nisolate()\n"
        "import socket, sys, tests.client.trainer_process\n"
        "from client.trainer.nursery import tend\n"
        "tend(socket.socket(fileno=int(sys.argv[1])))"
    )
    with its:
        argv = [sys.executable, "-c", code, str(its.fileno())]
        process = subprocess.Popen(argv, cwd=ROOT, pass_fds=(its.fileno(),))
    nursery = Nursery(process.pid, ours)
    try:
        return run_agent(site, nursery, trainer=FAKE_TRAINER, one_user=True)
    finally:
        nursery.close()


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def no_metadata(folder: Path) -> None:
    (folder / "tiles" / "metadata.csv").unlink()


def no_patients(folder: Path) -> None:
    write_csv(folder / "tiles", [("canary.png", "x")], ("file_name", "text"))


def too_few(folder: Path) -> None:
    write_folder(folder / "tiles", patients=2)


def plain_study(folder: Path) -> None:
    replace(folder / "study.toml", '"required"', '"plain"')


# Two others have signed. With its own signature too, the site would wait for theirs.
OTHERS = tuple(pair for pair in SIGNED.signatures if pair[0] != IDENTITIES["north"].public)[:2]
MISTAKES: dict[str, tuple[Callable[[Path], None], str]] = {
    "unknown key": (lambda f: replace(f / "site.toml", "device", "devise"), "did you mean device"),
    "no site file": (lambda f: (f / "site.toml").unlink(), "does not exist"),
    "no study file": (lambda f: (f / "study.toml").unlink(), "study.toml does not exist"),
    "not a member": (lambda f: replace(f / "site.toml", "north", "west"), "does not list"),
    "plain mode": (plain_study, '"plain" is no longer a mode'),
    "another study's roster": (
        lambda f: replace(f / "policy.toml", ROSTER.digest().hex(), "0" * 64),
        "is not the policy's `roster`",
    ),
    "no identity": (
        lambda f: replace(f / "site.toml", "[identity]", "[identities]"),
        "did you mean identity",
    ),
    "key of another site": (
        lambda f: (f / "site.key").write_bytes(IDENTITIES["south"].pem(None)),
        "this site's key is",
    ),
    "key that others may read": (
        lambda f: (f / "site.key").chmod(0o644),
        "others can read or change it",
    ),
    "no roster": (lambda f: (f / "roster.cfl").unlink(), "roster.cfl cannot be read"),
    "no roster file": (lambda f: (f / "roster.cfl").write_bytes(b"x"), "is not a file of rosters"),
    "a roster without quorum": (
        lambda f: write_rosters(f / "roster.cfl", [SignedRoster(ROSTER, OTHERS)]),
        "2 of 3 signatures",
    ),
    "bound exceeded": (
        lambda f: replace(f / "policy.toml", "delta", "max_rounds = 1\ndelta"),
        "rounds 3 is above 1",
    ),
    "no metadata": (no_metadata, "holds no metadata file"),
    "no patient ids": (no_patients, "add a column patient_id"),
    "ids that nobody confirmed": (
        lambda f: replace(f / "site.toml", "patient_ids_confirmed = true", ""),
        "Nobody has confirmed yet that patient_id names persons",
    ),
    "long socket": (
        lambda f: replace(f / "site.toml", "a.sock", "a" * 100),
        "at most 100 can be bound",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told_in_words(
    tmp_path: Path,
    mistake: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_this_process(monkeypatch)
    site = write_hospital(tmp_path, study=make_study())
    make, words = MISTAKES[mistake]
    make(tmp_path)
    assert run_here(site) == 1
    told = capsys.readouterr().err
    assert words in told
    assert re.search(r"^Error: .+^Next: .+^Id: [a-z-]+ \(docs/errors.md\)$", told, re.M | re.S)
    assert "Traceback" not in told
    assert "canary" not in told


def test_another_cohort_than_declared_is_served_and_warned_of(hospital: Hospital) -> None:
    too_few(hospital.folder)
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    assert hospital.terminate() == 0
    assert "declares 10 patients for north, but the data folder has 2" in hospital.log


def test_a_second_agent_on_the_same_state_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    site = write_hospital(tmp_path, study=make_study())
    with state_folder(tmp_path / "state"):
        assert run_here(site) == 1
    assert "Another agent uses the state folder" in capsys.readouterr().err


def test_a_socket_in_use_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)
    site = write_hospital(tmp_path, study=make_study())
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "a.sock"))
        other.listen()
        assert run_here(site) == 1
    assert "Another agent listens" in capsys.readouterr().err


def test_an_unexpected_error_is_told_without_its_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_this_process(monkeypatch)

    def broken(*_: object) -> None:
        raise KeyError("canary caption 1")

    monkeypatch.setattr(agent_main, "open_patients", broken)
    site = write_hospital(tmp_path, study=make_study())
    assert run_here(site) == 3
    assert "KeyError at test_agent_process.py" in caplog.text
    assert "canary" not in caplog.text


def test_a_study_for_which_others_left_no_room_is_refused_at_the_site_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody outside is told why, not even by what a socket answers meanwhile: there is none."""

    def no_room(*_: object) -> None:
        raise PolicyError("With this study the deltas of all studies are too large.", "")

    served: list[object] = []
    in_this_process(monkeypatch)
    monkeypatch.setattr(SiteRules, "check_other_studies", no_room)
    monkeypatch.setattr(agent_main, "serve", lambda *arguments, **_: served.append(arguments))
    site = write_hospital(tmp_path, study=make_study())
    assert run_here(site) == 1
    assert "deltas of all studies" in capsys.readouterr().err
    assert served == []
    assert not (tmp_path / "a.sock").exists()


def test_a_policy_that_was_edited_takes_effect_when_the_hospital_says_so(
    hospital: Hospital,
) -> None:
    """And every request is in the site's own log, across the new start."""
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    greeting = message(hello(make_study()))
    attempt = MaskedAttempt()
    assert isinstance(attempt.ask(hospital), Advertise)
    before = read_in_force(hospital.state / "in-force.json")
    policy = hospital.folder / "policy.toml"
    policy.write_text(policy.read_text().replace("study_epsilon = 20.0", "study_epsilon = 17.5"))
    ask_to_reload(hospital.state / "reload")
    attempt.to(Stage.DONE, hospital)  # what is open ends first
    hospital.wait_for(lambda: read_in_force(hospital.state / "in-force.json") != before)
    hospital.wait_for(hospital.is_serving)
    facts = hospital.ask(greeting)
    assert isinstance(facts, SignedFacts)
    assert facts.facts.epsilon_budget == 17.5
    assert facts.facts.epsilon_spent > 0
    assert not (hospital.state / "reload").exists()
    WishFile(hospital.state / "wish.json").write(SiteWish.PAUSE)
    assert hospital.ask(greeting) == Refusal(Reason.PAUSED)
    assert hospital.terminate() == 0
    ledger = read_ledger(hospital.state / "ledger.sqlite")
    assert [entry.state for entry in ledger.entries()] == [State.COMMITTED]
    found = read_requests(hospital.state / "requests.log", ledger.head().public_key)
    assert found.fault == ""
    told = [(each.request.kind, each.request.answer) for each in found.records]
    assert told[0] == ("TRAIN_MASKED", "ADVERTISE")
    assert told[-2:] == [("HELLO", "SIGNED_FACTS"), ("HELLO", "REFUSAL")]
    assert found.records[-1].request.reason == "PAUSED"

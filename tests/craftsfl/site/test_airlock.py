"""Agent and gateway are two users, or nothing starts; what the second one's code then gets at.

With Flower's SuperNode, the coordinator may put any code into its bundle, and that code runs as the
gateway's user, with its environment; the same is feared of a gateway that was taken over.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.agent.apart import ONE_USER
from client.settings import SiteSettings, load_site
from craftsfl.processes.accounts import SystemAccount, find_account
from craftsfl.processes.agent_command import agent_command
from craftsfl.processes.environment import environment
from craftsfl.processes.flower.credentials import make_supernode_key
from craftsfl.processes.flower.supernode import SuperNode
from craftsfl.site import commands as site_command
from craftsfl.site.airlock import check_gateway, two_users
from craftsfl.site.serving import serve_site
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, CraftsflError, PolicyError
from scripts.other_users import visible
from tests.client.hospital import ROOT, write_hospital
from tests.client.studies import make_study
from tests.craftsfl.called import craftsfl
from tests.craftsfl.site.two_users import (
    AGENT,
    ALLOWED,
    FOR_MODELS,
    NODE,
    as_user,
    check_report,
    running_agent,
    two_user_site,
    write_site,
)
from tests.hostile import MARK
from tests.users import attempt, needs_users, open_folder


def test_one_user_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    path, before = write_site(tmp_path), os.umask(0)
    try:
        with pytest.raises(PolicyError, match="would run as one user") as caught:
            serve_site(path)
    finally:
        os.umask(before)
    assert caught.value.id == ErrorId.ONE_USER
    assert "two users who share the socket" in caught.value.hint
    assert ONE_USER in caught.value.hint
    assert not (tmp_path / "flwr").exists()


def test_an_agent_alone_with_its_own_users_socket_is_refused(tmp_path: Path) -> None:
    site = write_site(tmp_path, gateway='kind = "supernode"\n')  # ours: test_one_user.py
    done = craftsfl("site", "serve", str(site), "--only", "agent")
    assert done.returncode == 1
    told = " ".join(done.stderr.split())
    assert "would run as the user who owns data" in told
    assert "a SuperNode is never shut in" in told
    assert not (tmp_path / "a.sock").exists()


def test_the_command_line_and_the_agent_agree_on_the_option() -> None:
    assert site_command._ONE_USER == ONE_USER


@needs_users
@pytest.mark.parametrize(
    "change, error, words",
    [
        (lambda t: t.replace(f'user = "{NODE}"', f'user = "{AGENT}"'), PolicyError, "daemon is"),
        (lambda t: t.replace(f'user = "{NODE}"', ""), PolicyError, "would run as one user"),
        (lambda t: t.replace(f'"{AGENT}"', '"root"'), ConfigError, "root is root"),
        (lambda t: t.replace(f'"{NODE}"', '"nosuchuser"'), ConfigError, "no user nosuchuser"),
        (lambda t: t.replace('socket_mode = "0660"', ""), ConfigError, "keeps the gateway"),
        (lambda t: t.replace('socket = "run/agent.sock"', ""), ConfigError, "names no socket"),
    ],
)
def test_users_that_are_no_two_users_are_refused(
    change: Callable[[str], str], error: type[CraftsflError], words: str
) -> None:
    with open_folder() as folder:
        path = two_user_site(folder)
        path.write_text(change(path.read_text()))
        with pytest.raises(error, match=words):
            two_users(load_site(path))


def opened(folder: Path, name: str) -> None:
    for path in (folder / name, *folder.glob(f"{name}/*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@needs_users
@pytest.mark.parametrize("name", ["tiles", "state", "site.key"])
def test_what_the_gateways_user_can_reach_is_named(name: str) -> None:
    with open_folder() as folder:
        site = load_site(two_user_site(folder))
        two_users(site)
        opened(folder, name)
        with pytest.raises(PolicyError, match=f"can reach .*{folder / name}"):
            two_users(site)
        refused = attempt(find_account(NODE).uid, lambda: check_gateway(site))
        assert isinstance(refused, PolicyError)
        assert str(folder / name) in str(refused)


@needs_users
def test_a_gateway_started_alone_is_neither_root_nor_the_agents_user() -> None:
    with open_folder() as folder:
        path = two_user_site(folder)
        path.write_text(path.read_text() + 'kind = "supernode"\n')  # ours: test_one_user.py
        site = load_site(path)
        two_users(site)
        assert attempt(find_account(NODE).uid, lambda: check_gateway(site)) is None
        agents = attempt(find_account(AGENT).uid, lambda: check_gateway(site))
        assert isinstance(agents, PolicyError)
        assert isinstance(attempt(0, lambda: check_gateway(site)), PolicyError)


def hostile_report(site: SiteSettings, folder: Path, agent: int) -> dict[str, Any]:
    """What code of the bundle finds where the ClientApp runs."""
    home = folder / "flwr"
    home.mkdir(exist_ok=True)
    account = find_account(NODE)
    os.chown(home, account.uid, account.gid)
    node = SuperNode(
        name="north",
        superlink="localhost:1",
        authority=None,
        key=folder / "supernode.key",
        agent_socket=folder / "run/agent.sock",
        home=home,
        port=1,
        secret=home / "runtime.secret",
        account=account,
    ).commands(home / "logs")[0]
    argv = [sys.executable, str(ROOT / "tests" / "hostile.py"), str(folder), str(agent)]
    subprocess.run(visible(as_user(NODE, node.log, argv)), env=dict(node.env), check=True)
    assert node.log.stat().st_uid == account.uid
    text = node.log.read_text()
    return dict(json.loads(text.split(MARK)[1]))


@needs_users
def test_a_hostile_bundle_gets_at_nothing_but_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(43):
        monkeypatch.setenv(f"SECRET_{number}", "token")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "token")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/somewhere")
    with open_folder() as folder:
        path = two_user_site(folder)
        site = load_site(path)
        two_users(site)
        with running_agent(path) as hospital:
            assert hospital.process is not None
            report = hostile_report(site, folder, hospital.process.pid)
            status = Path(f"/proc/{hospital.process.pid}/status").read_text()
    assert f"Uid:\t{find_account(AGENT).uid}\t" in status
    check_report(report)


@needs_users
@pytest.mark.slow
def test_site_serve_by_root_gives_each_part_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent ends because its study's base is another; what both made is each one's own."""
    monkeypatch.delenv("CRAFTSFL_CACHE")  # the test's own, which the agent's user may not enter
    with open_folder() as folder:
        path, node, agent = two_user_site(folder), find_account(NODE), find_account(AGENT)
        (folder / "flwr").mkdir(exist_ok=True)
        make_supernode_key(folder / "supernode.key")
        for own in (folder / "flwr", folder / "supernode.key"):
            os.chown(own, node.uid, node.gid)
        code = "from craftsfl.cli import main; main()"
        argv = [sys.executable, "-c", code, "site", "serve", str(path)]
        done = subprocess.run(visible(argv), capture_output=True, text=True, check=False)
        told = " ".join(done.stderr.split())
        assert done.returncode == 1, told
        assert "north agent ended with status 1" in told
        assert "a network namespace with nothing but lo" in told
        for log, account in (("state/logs/agent.log", agent), ("flwr/logs/gateway.log", node)):
            facts = (folder / log).stat()
            assert (facts.st_uid, facts.st_mode & 0o777) == (account.uid, 0o600)
        assert (folder / "state/ledger.sqlite").stat().st_uid == agent.uid
        meeting = (folder / "run").stat()
        assert (meeting.st_uid, meeting.st_gid) == (agent.uid, node.gid)
        assert meeting.st_mode & 0o7777 == 0o2750


def test_more_of_the_environment_only_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:3128")
    monkeypatch.setenv("PYTHONPATH", "/evil")
    monkeypatch.setenv("LD_PRELOAD", "/evil.so")
    assert set(environment(tmp_path)) <= ALLOWED
    named = environment(tmp_path, allowed=["HTTPS_PROXY"])
    assert set(named) <= {*ALLOWED, "HTTPS_PROXY"}
    assert named["HTTPS_PROXY"] == "http://user:secret@proxy:3128"
    path = write_site(tmp_path, gateway='environment = ["HTTPS_PROXY"]\n')
    site = load_site(path)
    assert site.gateway is not None
    assert site.gateway.environment == ("HTTPS_PROXY",)
    assert set(agent_command(path, site, tmp_path / "log").env) <= {*ALLOWED, *FOR_MODELS}


@pytest.mark.parametrize("safe", [True, False])
def test_a_client_py_in_the_working_folder_is_not_the_agent(tmp_path: Path, safe: bool) -> None:
    """With the control: without -P the trap is what runs."""
    hospital, trap = tmp_path / "hospital", tmp_path / "trap"
    hospital.mkdir()
    trap.mkdir()
    (trap / "client.py").write_text("import pathlib; pathlib.Path('sprung').touch()\n")
    path = write_hospital(hospital, study=make_study())
    path.write_text(path.read_text().replace("device", "devise"))  # it ends at its settings
    command = agent_command(path, load_site(write_hospital(tmp_path)), tmp_path / "log")
    argv, env = list(command.argv), dict(command.env)
    if not safe:
        argv.remove("-P")
        del env["PYTHONSAFEPATH"]
    done = subprocess.run(argv, env=env, cwd=trap, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (trap / "sprung").exists() is not safe
    assert ("did you mean device" in done.stderr) is safe


@needs_users
def test_root_writes_no_log_where_the_gateways_user_points_to() -> None:
    with open_folder() as folder:
        home, victim = folder / "home", folder / "roots-file"
        victim.write_text("precious")
        home.mkdir()
        os.chown(home, find_account(NODE).uid, -1)
        (home / "log").symlink_to(victim)
        argv = as_user(NODE, home / "log", [sys.executable, "-c", "print('x')"])
        assert subprocess.run(visible(argv), capture_output=True, check=False).returncode != 0
        assert victim.read_text() == "precious"


def test_a_user_that_is_not_there_is_told_in_words() -> None:
    with pytest.raises(ConfigError, match="useradd --system nosuchuser"):
        find_account("nosuchuser")
    assert isinstance(find_account(NODE), SystemAccount)

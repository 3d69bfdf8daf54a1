"""A hostile bundle on real Flower processes, with two users as a hospital has them.

The coordinator's SuperLink sends it, the hospital's SuperNode runs it, and what it finds comes back
to the coordinator as an answer. Flower decides which process runs it, and with which environment.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.settings import load_site
from craftsfl.processes.accounts import find_account
from craftsfl.processes.flower.commands import SuperLink
from craftsfl.processes.flower.control import register_node, start_flower_run
from craftsfl.processes.flower.credentials import make_authority, make_secret, make_supernode_key
from craftsfl.processes.flower.supernode import SuperNode
from craftsfl.processes.gateway_command import SECRET, make_runtime_secret
from craftsfl.processes.supervisor import Command, Supervisor, claim_port, port_open, wait_until
from craftsfl.rounds.fab import build
from craftsfl.site.airlock import two_users
from scripts.other_users import visible
from tests.client.hospital import ROOT
from tests.craftsfl.site.two_users import NODE, as_user, check_report, running_agent, two_user_site
from tests.users import needs_users, open_folder

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300), needs_users]

PROJECT = """
[project]
name = "hostile"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "hostile"
fab-include = ["hostile/*.py"]
[tool.flwr.app.components]
serverapp = "hostile.app:server"
clientapp = "hostile.app:client"
[tool.flwr.app.config]
"""
APP = """
import json, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from hostile.report import report

client = ClientApp()
server = ServerApp()

@client.query()
def query(message, context):
    found = json.dumps(report(Path({folder!r}), {agent}))
    return Message(RecordDict({{"found": ConfigRecord({{"text": found}})}}), reply_to=message)

@server.main()
def main(grid, context):
    while not list(grid.get_node_ids()):
        time.sleep(0.5)
    ask = [Message(RecordDict(), dst_node_id=n, message_type="query") for n in grid.get_node_ids()]
    (answer,) = grid.send_and_receive(ask, timeout=60)
    failed = json.dumps(str(answer.error)) if answer.has_error() else ""
    text = failed or answer.content["found"]["text"]
    Path({result!r}).write_text(text)
"""


def write_bundle(folder: Path, hospital: Path, agent: int, result: Path) -> Path:
    package = folder / "hostile" / "hostile"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").touch()
    app = APP.format(folder=str(hospital), agent=agent, result=str(result))
    (package / "app.py").write_text(app)
    (package / "report.py").write_text((ROOT / "tests" / "hostile.py").read_text())
    return package.parent


@contextmanager
def coordinator(folder: Path) -> Iterator[tuple[SuperLink, Supervisor]]:
    """A SuperLink and its SuperExec."""
    tls = make_authority(folder / "tls")
    (folder / "tls").chmod(0o755)
    tls.authority.chmod(0o644)  # the hospital has a copy
    port = claim_port("127.0.0.1", None)
    link = SuperLink("127.0.0.1", port, folder / "link", tls, make_secret(folder / "secret"))
    link.prepare()
    with Supervisor() as supervisor:
        supervisor.start(link.superlink(folder / "superlink.log"))
        up = {"what": "The SuperLink", "supervisor": supervisor, "timeout": 60.0}
        wait_until(lambda: port_open("127.0.0.1", port), **up)  # type: ignore[arg-type]
        supervisor.start(link.superexec(folder / "superexec.log"))
        yield link, supervisor


def start_supernode(folder: Path, link: SuperLink, supervisor: Supervisor) -> Path:
    """As root's `site serve` does; gives its log."""
    account = find_account(NODE)
    public = make_supernode_key(folder / "supernode.key")
    register_node(link, public)
    home = folder / "flwr"
    home.mkdir(exist_ok=True)
    make_runtime_secret(home)
    for path in (home, home / SECRET, folder / "supernode.key"):
        os.chown(path, account.uid, account.gid)
    node = SuperNode(
        name="north",
        superlink=f"localhost:{link.port}",
        authority=link.credentials.authority,
        key=folder / "supernode.key",
        agent_socket=folder / "run/agent.sock",
        home=home,
        port=claim_port("127.0.0.1", None),
        secret=home / SECRET,
        account=account,
    ).commands(home / "logs")
    for command in node:
        assert command.user == NODE
        argv = tuple(visible(as_user(NODE, command.log, list(command.argv))))
        supervisor.start(Command(command.name, argv, command.env, folder / "started.log"))
    return node[0].log


def test_what_a_hostile_bundle_brings_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMINISTRATORS_TOKEN", "secret")
    with open_folder() as folder, open_folder() as consortium:
        site = two_user_site(folder)
        two_users(load_site(site))
        result = consortium / "result.json"
        with running_agent(site) as hospital, coordinator(consortium) as (link, supervisor):
            assert hospital.process is not None
            bundle = write_bundle(consortium, folder, hospital.process.pid, result)
            log = start_supernode(folder, link, supervisor)
            start_flower_run(link, build(bundle), {})
            deadline = time.monotonic() + 120
            while not (result.exists() and result.read_text()):
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(0.5)
        check_report(json.loads(result.read_text()))

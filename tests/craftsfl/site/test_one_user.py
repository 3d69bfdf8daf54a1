"""A hospital with one user: what then separates its gateway from its agent, and when nothing does.

The gateway's word is not taken: what is asked here is a process of that user, on this kernel.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.agent.apart import private_paths
from client.confinement.landlock import landlock_abi
from client.gateway.trial import try_to_shut_in
from client.settings import load_site
from craftsfl.processes.flower.credentials import make_authority, make_supernode_key
from craftsfl.processes.gateway_command import gateway_commands
from scripts.other_users import command_as
from tests.client.hospital import ROOT
from tests.craftsfl.site.two_users import write_site
from tests.users import AGENT, give, needs_users, open_folder

needs_landlock = pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock")
ASK = """
import os, sys
from pathlib import Path
from client.agent.apart import check_apart
from client.settings import load_site
from craftsfl.site.airlock import check_gateway, separation
from privacy.errors import CraftsflError
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
site = load_site(Path(sys.argv[1]))
for ask in (separation, check_gateway, lambda site: check_apart(site, one_user=False)):
    try:
        print("said:", ask(site))
    except CraftsflError as error:
        print("refused:", error.id, error.message)
"""
# As on a kernel without Landlock.
WITHOUT = """
import sys
import client.gateway.shut_in as module
def missing(*_, **__):
    raise OSError(38, "Function not implemented")
module.read_only = missing
from client.gateway.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def as_the_user(*argv: str, folder: Path) -> subprocess.Popen[str]:
    give(folder, AGENT)
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    return subprocess.Popen(
        command_as(AGENT, [sys.executable, "-P", *argv]),
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def asked(folder: Path, **lines: str) -> list[str]:
    """What the supervisor of both, that of the gateway, and the agent say of one user's site."""
    site = write_site(folder, **lines)
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    told = as_the_user("-c", ASK, str(site), folder=folder).communicate(timeout=100)[0]
    return [line for line in told.splitlines() if line.startswith(("said", "refused", "One"))]


@needs_users
@needs_landlock
def test_one_user_is_enough_where_the_kernel_can_shut_the_gateway_in() -> None:
    with open_folder() as folder:
        supervisor, gateways, agents, last = asked(folder)
    assert supervisor == gateways
    assert supervisor.startswith("said: One user. Airlock: the gateway reads its key")
    assert agents.startswith("One user. Airlock: the gateway reads its key")  # in the agent's log
    assert last == "said: None"


@needs_users
def test_a_stock_supernode_of_the_agents_user_is_refused_by_all() -> None:
    with open_folder() as folder:
        answers = asked(folder, gateway='kind = "supernode"\n')
    assert len(answers) == 3
    for answer in answers:
        assert answer.startswith("refused: one-user The gateway, which faces the network, would")
        assert "a SuperNode is never shut in" in answer


@needs_users
def test_two_named_users_take_root() -> None:
    with open_folder() as folder:
        supervisor, *_ = asked(folder, gateway='user = "nobody"\n')
    assert supervisor.startswith("refused: one-user Agent and gateway would run as one user")


def test_data_among_the_programs_is_told(tmp_path: Path) -> None:
    trial = try_to_shut_in([Path(sys.prefix) / "tiles"])
    assert not trial.held
    assert "which the gateway has to read to run" in trial.text


def start_gateway(folder: Path, *before: str) -> subprocess.Popen[str]:
    make_authority(folder / "tls")
    make_supernode_key(folder / "supernode.key")
    text = 'root_certificates = "tls/ca.pem"\n'
    site = load_site(write_site(folder, gateway=text))
    (command,) = gateway_commands(site, folder, one_user=True)
    assert "--one-user" in command.argv
    for path in private_paths(site):
        assert str(path) in command.argv
    words = list(command.argv[command.argv.index("client.gateway") + 1 :])
    return as_the_user(*(before or ("-m", "client.gateway")), *words, folder=folder)


@needs_users
def test_a_gateway_of_the_agents_user_that_is_not_shut_in_ends() -> None:
    with open_folder() as folder:
        process = start_gateway(folder, "-c", WITHOUT)
        told = process.communicate(timeout=100)[0]
    assert process.returncode == 1
    assert "NO AIRLOCK of its own: the gateway can read files of its user" in told
    assert "The gateway runs as the agent's user, and is not shut in" in told


@needs_users
@needs_landlock
def test_a_real_gateway_is_shut_in_and_goes_on_asking() -> None:
    """Nobody answers where its coordinator should be; the desk is told, and it asks again."""
    with open_folder() as folder:
        process = start_gateway(folder)
        assert process.stdout is not None
        told: list[str] = []
        until = time.monotonic() + 60
        while not any("No SuperLink at" in line for line in told) and time.monotonic() < until:
            told.append(process.stdout.readline())
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.terminate()
        rest = process.communicate(timeout=60)[0]
    text = "".join(told) + rest
    assert "Airlock: the gateway reads its key" in text
    assert "desk: No SuperLink at localhost:1" in text
    assert "Seccomp:\t2" in status
    assert "NoNewPrivs:\t1" in status
    assert process.returncode == 0, text

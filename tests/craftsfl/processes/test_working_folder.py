"""What lies in the working folder is never run: every process we start, in a folder full of traps.

Each trap has the name of a package, of ours or of a library. The demo of the integration tests runs
in such a folder too, with all the processes that Flower starts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from client.settings import load_site
from craftsfl.demo.tiles import tiles_command
from craftsfl.processes.agent_command import agent_command
from craftsfl.processes.environment import environment
from craftsfl.processes.flower.commands import SuperLink, program
from craftsfl.processes.flower.credentials import ServerCredentials
from craftsfl.processes.flower.superexec_program import SERVERAPP
from craftsfl.processes.flower.supernode import SuperNode
from craftsfl.processes.gateway_command import gateway_commands
from craftsfl.processes.supervisor import Command
from tests.client.hospital import write_hospital
from tests.client.studies import make_study
from tests.traps import NAMES, set_traps, sprung

GATEWAY = """
[gateway]
superlink = "localhost:1"
key = "supernode.key"
home = "gateway"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return set_traps(tmp_path / "trap")


def run(
    folder: Path, argv: Sequence[str], env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, env=env, cwd=folder, capture_output=True, text=True, check=False, timeout=100
    )


def link(tmp_path: Path) -> SuperLink:
    files = ServerCredentials(tmp_path / "ca.pem", tmp_path / "server.pem", tmp_path / "server.key")
    return SuperLink("127.0.0.1", 1, tmp_path / "link", files, tmp_path / "secret")


def node(tmp_path: Path) -> SuperNode:
    return SuperNode(
        name="north",
        superlink="localhost:1",
        authority=None,
        key=tmp_path / "key",
        agent_socket=tmp_path / "agent.sock",
        home=tmp_path / "home",
        port=1,
        secret=tmp_path / "secret",
    )


def commands(tmp_path: Path) -> dict[str, Command]:
    log = tmp_path / "log"
    site = write_hospital(tmp_path, study=make_study())
    site.write_text(site.read_text() + GATEWAY)
    (gateway,) = gateway_commands(load_site(site), tmp_path)
    supernode, starter = node(tmp_path).commands(tmp_path)
    return {
        "gateway": gateway,
        "superlink": link(tmp_path).superlink(log),
        "superexec": link(tmp_path).superexec(log),
        "supernode": supernode,
        "starter": starter,
        "agent": agent_command(site, load_site(site), log),
        "tiles": tiles_command(tmp_path, "north", tmp_path),
    }


LATER = (pytest.mark.slow, pytest.mark.ci)  # Flower's own programs: over a second of imports each
PROCESSES = ("superexec", "gateway", "agent", "tiles")
FLOWERS = ("superlink", "supernode", "starter")


@pytest.mark.parametrize(
    "name", [*PROCESSES, *(pytest.param(name, marks=LATER) for name in FLOWERS)]
)
def test_a_process_of_ours_finds_nothing_in_its_working_folder(
    folder: Path, tmp_path: Path, name: str
) -> None:
    """To the end of its imports: it is asked for its help. Who makes tiles does so."""
    command = commands(tmp_path)[name]
    assert command.argv[:2] == (sys.executable, "-P")
    assert command.env["PYTHONSAFEPATH"] == "1"
    done = run(folder, [*command.argv, "--help"], command.env)
    assert "usage:" in done.stdout or name == "tiles", done.stderr
    assert done.returncode == 0, done.stderr
    assert sprung(folder) == []


@pytest.mark.slow
@pytest.mark.ci
def test_nor_does_what_a_supernode_starts(folder: Path, tmp_path: Path) -> None:
    """By name, from the PATH, in the same folder, with the same environment."""
    made = commands(tmp_path)["starter"]
    done = run(folder, ["/usr/bin/env", "flwr-clientapp", "--help"], made.env)
    assert "usage:" in done.stdout, done.stderr
    assert sprung(folder) == []


@pytest.mark.slow
@pytest.mark.ci
def test_nor_does_what_our_superexec_starts(folder: Path, tmp_path: Path) -> None:
    """The ServerApp's program, to the end of its imports: then it finds no token."""
    argv = [*(sys.executable, "-P", "-m", SERVERAPP), "--runtime-api-address", "127.0.0.1:1"]
    made = commands(tmp_path)["superexec"]
    done = run(folder, [*argv, "--root-certificates", __file__], made.env)
    assert "`token` must be a non-empty string" in done.stderr
    assert sprung(folder) == []


@pytest.mark.slow
@pytest.mark.ci
def test_the_flwr_command_finds_nothing_there(folder: Path, tmp_path: Path) -> None:
    done = run(folder, [*program("flwr"), "--help"], environment(tmp_path))
    assert "Usage:" in done.stdout, done.stderr
    assert sprung(folder) == []


def test_who_becomes_another_user_finds_nothing_there(folder: Path, tmp_path: Path) -> None:
    command = Command("it", (sys.executable, "-c", ""), {}, tmp_path / "log", user="nosuchuser")
    done = run(folder, command.full_argv, environment(tmp_path))
    assert "no user nosuchuser" in done.stderr
    assert sprung(folder) == []


def test_the_program_itself_finds_nothing_there(folder: Path) -> None:
    script = Path(sys.executable).with_name("craftsfl")
    done = run(folder, [str(script), "rounds", "status", "nowhere.toml"], os.environ)
    assert "nowhere.toml does not exist" in done.stderr
    assert sprung(folder) == []


def test_what_a_library_starts_finds_nothing_there(folder: Path) -> None:
    """Workers of a pool, for instance, which are new Pythons with the same environment."""
    code = (
        "import runpy, subprocess, sys\n"
        "sys.argv = ['craftsfl', '--version']\n"
        "try:\n    runpy.run_module('craftsfl', run_name='__main__')\n"
        "except SystemExit:\n    subprocess.run([sys.executable, '-c', 'import client'])\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = run(folder, [sys.executable, "-P", "-c", code], env)
    assert done.stdout.startswith("craftsfl "), done.stderr
    assert sprung(folder) == []


def test_the_traps_work(folder: Path) -> None:
    """The control: without -P each of them is what Python finds."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    run(folder, [sys.executable, "-c", f"import {', '.join(NAMES)}"], env)
    assert sprung(folder) == sorted(NAMES)

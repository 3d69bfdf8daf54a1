"""`craftsfl rounds serve` by itself on real Flower: killed, started again, started twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from craftsfl.demo.workspace import DemoOptions, clear_folder, write_workspace
from craftsfl.processes.flower.commands import SuperLink
from craftsfl.processes.flower.control import answers, node_states, register_node
from craftsfl.processes.flower.credentials import make_supernode_key
from craftsfl.processes.supervisor import claim_port
from craftsfl.rounds.operator import superlink_of
from server.settings import load_consortium
from tests.craftsfl.demo.drafts import DIGEST, drafts

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


@contextmanager
def serving(settings: Path) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-P", "-m", "craftsfl", "rounds", "serve", str(settings)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(40)


def wait_for(link: SuperLink, process: subprocess.Popen[str], seconds: float = 40) -> float:
    """Seconds until the SuperLink answered its operator."""
    begin = time.monotonic()
    while not answers(link):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() - begin < seconds
        time.sleep(0.1)
    return time.monotonic() - begin


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    running = [one for one in processes if one.is_running()]
    return [one for one in running if one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    clear_folder(tmp_path / "demo")
    port = claim_port("127.0.0.1", None)
    made = write_workspace(DemoOptions(tmp_path / "demo"), drafts(tmp_path), DIGEST, port=port)
    made.runtime.rmdir()
    return made.consortium


def test_a_killed_one_is_followed_at_once_and_a_second_is_refused(
    settings: Path, tmp_path: Path
) -> None:
    link = superlink_of(load_consortium(settings))
    key = make_supernode_key(tmp_path / "north.key")
    with serving(settings) as first:
        wait_for(link, first)
        node = register_node(link, key)
        with serving(settings) as second:
            assert second.wait(30) == 1
            assert second.stderr is not None
            words = second.stderr.read()
            assert f"({first.pid}) serves" in words
            assert "coordinator-running" in words
        family = psutil.Process(first.pid).children(recursive=True)
        assert len(family) == 2
        first.kill()
        first.wait()
        with serving(settings) as third:
            gone = time.monotonic() + 10
            while alive(family):  # until then, the old SuperLink may answer
                assert time.monotonic() < gone
                time.sleep(0.05)
            wait_for(link, third, 20)
            assert node in node_states(link)
            family = psutil.Process(third.pid).children(recursive=True)
        assert third.returncode in (0, 130)
        assert alive(family) == []

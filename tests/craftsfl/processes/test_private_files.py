"""What `rounds serve` and the demo write is their user's alone: files of the real SuperLink."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from craftsfl.demo.workspace import DemoOptions, clear_folder, write_workspace
from craftsfl.processes.lifeline import PARENT
from craftsfl.processes.supervisor import claim_port, port_open
from tests.craftsfl.demo.drafts import DIGEST, drafts
from tests.craftsfl.site.two_users import ALLOWED, FOR_MODELS
from tests.users import shared


@pytest.mark.integration
def test_a_real_coordinator_shares_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask it is started with, and though an earlier version left its folder open."""
    monkeypatch.setenv("OPERATORS_TOKEN", "secret")
    port = claim_port("127.0.0.1", None)
    folder = tmp_path / "demo"
    before = os.umask(0o022)
    try:
        clear_folder(folder)
        made = write_workspace(DemoOptions(folder), drafts(tmp_path), DIGEST, port=port)
        coordinator = made.consortium.parent
        (coordinator / "superlink").mkdir(mode=0o755)
        (coordinator / "superlink" / "superlink.db").touch(0o644)
        code = "from craftsfl.cli import main; main()"
        argv = [sys.executable, "-c", code, "rounds", "serve", str(made.consortium)]
        process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    finally:
        os.umask(before)
    try:
        deadline = time.monotonic() + 60
        while not port_open("127.0.0.1", port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        family = psutil.Process(process.pid).children(recursive=True)
        given = [set(child.environ()) for child in family if "flower" in " ".join(child.cmdline())]
        cmdlines = [" ".join(child.cmdline()) for child in family]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert given, cmdlines
    assert set().union(*given) <= {*ALLOWED, *FOR_MODELS, "LC_CTYPE", PARENT}
    link = coordinator / "superlink"
    assert (link / "superlink.db").stat().st_size > 0
    assert {path.name for path in link.rglob("*")} >= {"superlink.log", "superexec.log"}
    assert shared(link) == {}
    assert shared(coordinator / "state") == {}
    keys = [coordinator / "tls" / "server.key", coordinator / "superexec.secret"]
    assert [stat.S_IMODE(key.stat().st_mode) for key in keys] == [0o600] * 2
    made.runtime.rmdir()

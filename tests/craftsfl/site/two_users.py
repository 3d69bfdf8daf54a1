"""A site whose agent and gateway are two users, and what the second one's code may get at."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from craftsfl.processes.accounts import find_account
from craftsfl.processes.environment import environment
from scripts.other_users import visible
from tests.client.hospital import ROOT, Hospital, write_hospital
from tests.client.studies import make_study
from tests.hostile import WANTED

AGENT, NODE = "daemon", "nobody"  # users that every Linux has, and who own nothing
GATEWAY = """
[gateway]
superlink = "localhost:1"
key = "supernode.key"
home = "flwr"
"""


def write_site(folder: Path, **lines: str) -> Path:
    """A hospital with a [gateway] table; `lines` go into [agent] and [gateway]."""
    path = write_hospital(folder, study=make_study())
    text = path.read_text() + GATEWAY + lines.get("gateway", "")
    path.write_text(text.replace("[agent]\n", f"[agent]\n{lines.get('agent', '')}"))
    return path


def two_user_site(folder: Path) -> Path:
    """As docs/hospital.md says it: two users, and the agent's files its own."""
    agent = find_account(AGENT)
    site = write_site(
        folder,
        agent=f'user = "{AGENT}"\nsocket_mode = "0660"\n',
        gateway=f'user = "{NODE}"\n',
    )
    site.write_text(site.read_text().replace('"a.sock"', '"run/agent.sock"'))
    (folder / "flwr").mkdir(mode=0o700, exist_ok=True)
    os.chown(folder / "flwr", find_account(NODE).uid, find_account(NODE).gid)
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    (folder / "tiles").chmod(0o700)
    for path in (folder / "state", *folder.glob("state/*"), *folder.rglob("tiles*")):
        os.chown(path, agent.uid, agent.gid)
    # The key's folder too: the agent keeps a marker and a lock next to the key.
    for path in (*folder.glob("tiles/*"), *folder.glob("site.key*"), folder):
        os.chown(path, agent.uid, agent.gid)
    return site


@contextmanager
def running_agent(site: Path) -> Iterator[Hospital]:
    """The test's agent as the agent's user, started as a supervisor that is root does."""
    hospital = Hospital.__new__(Hospital)
    hospital.folder, hospital.site, hospital.state = site.parent, site, site.parent / "state"
    log = hospital.state / "agent.log"
    argv = [sys.executable, "-m", "tests.client.agent_process", "--site", str(site)]
    env = {**environment(Path("/nonexistent")), "PYTHONPATH": str(ROOT)}
    hospital.process = subprocess.Popen(visible(as_user(AGENT, log, argv)), env=env, cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while not (hospital.state / "patients.key").exists():  # the last of what it makes
            told = log.read_text() if log.exists() else ""
            assert hospital.process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.05)
        yield hospital
    finally:
        hospital.process.terminate()
        hospital.process.wait(60)


def as_user(user: str, log: Path, argv: list[str]) -> list[str]:
    return [sys.executable, "-P", "-m", "craftsfl.processes.as_user", user, str(log), *argv]


def check_report(report: dict[str, Any]) -> None:
    """It is another user, and got nothing but what it may."""
    assert report["uid"] == find_account(NODE).uid
    assert report["stolen"] == []
    assert report["refused"] == list(WANTED)
    assert report["traced"] == -1
    assert report["peeked"] == []
    assert report["root"] is False
    assert report["privileges"] == "1"
    assert report["reached"] == 0  # the one door, with the typed messages behind it
    # PWD is of the shell that `visible` may need, the others Flower itself sets in a ClientApp
    flowers = {"PWD", "GRPC_VERBOSITY", "BROWSER_USE_SETUP_LOGGING"}
    assert set(report["variables"]) <= ALLOWED | flowers
    assert report["safe"] is True


ALLOWED = {
    *("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"),
    *("FLWR_HOME", "FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK"),
    *("FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION", "FLWR_SUPEREXEC_TASK_POLL_INTERVAL"),
    *("PYTHONUNBUFFERED", "PYTHONSAFEPATH"),
}
FOR_MODELS = {"CRAFTSFL_CACHE", "OMP_NUM_THREADS", "HF_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"}

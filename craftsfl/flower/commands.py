"""Command lines and environment of Flower's processes.

Facts behind the options (Flower 1.41): Control, Fleet and Runtime API share one port; only with
process isolation and a SuperExec secret can no stranger take the ServerApp's task; an update check
and telemetry would call home at every start; dependencies of a bundle must never be installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from craftsfl.flower.credentials import ServerCredentials
from craftsfl.processes import Command
from privacy.errors import DeploymentError

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
TASK_POLL_SECONDS = "0.2"
PROFILE = "consortium"


def tool(name: str) -> str:
    """The path of one of Flower's programs beside this Python; raises `DeploymentError`."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise DeploymentError(
            f"{name} is not installed beside {sys.executable}.",
            "Install craftsfl with the extra `site` or `operator`.",
        )
    return str(path)


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, with Flower silent, offline and at home in `home`."""
    return {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": TASK_POLL_SECONDS,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONUNBUFFERED": "1",
        **(extra or {}),
    }


@dataclass(frozen=True)
class SuperLink:
    """Where the coordinator listens and keeps its state."""

    host: str
    port: int
    folder: Path  # database, Flower's home
    credentials: ServerCredentials
    secret: Path

    @property
    def address(self) -> str:
        """`host:port` as this machine reaches it (and as its certificate names it)."""
        host = LOOPBACK if self.host == EVERYWHERE else self.host
        return f"{host}:{self.port}"

    @property
    def home(self) -> Path:
        """FLWR_HOME of the coordinator and of the `flwr` commands sent to it."""
        return self.folder / "flwr"

    def superlink(self, log: Path) -> Command:
        """The SuperLink: TLS, node authentication, process isolation, SQLite."""
        argv = (
            tool("flower-superlink"),
            *("--host", self.host, "--port", str(self.port)),
            *("--ssl-ca-certfile", str(self.credentials.authority)),
            *("--ssl-certfile", str(self.credentials.certificate)),
            *("--ssl-keyfile", str(self.credentials.key)),
            "--enable-supernode-auth",
            *("--isolation", "process"),
            *("--superexec-auth-secret-file", str(self.secret)),
            *("--database", str(self.folder / "superlink.db")),
            "--disable-runtime-dependency-installation",
        )
        return Command("superlink", argv, environment(self.home), log)

    def superexec(self, log: Path) -> Command:
        """The SuperExec that starts the ServerApp's process for each run."""
        argv = (
            tool("flower-superexec"),
            *("--runtime-api-address", self.address),
            *("--root-certificates", str(self.credentials.authority)),
            *("--superexec-auth-secret-file", str(self.secret)),
        )
        return Command("superexec", argv, environment(self.home), log)

    def write_profile(self) -> None:
        """Tell the `flwr` command where this SuperLink is."""
        write_profile(self.home, self.address, self.credentials.authority)


def write_profile(home: Path, address: str, authority: Path) -> None:
    """Write the connection profile `PROFILE` into `home`/config.toml."""
    home.mkdir(parents=True, exist_ok=True)
    text = (
        f'[superlink]\ndefault = "{PROFILE}"\n\n[superlink.{PROFILE}]\n'
        f"address = {json.dumps(address)}\n"
        f"root-certificates = {json.dumps(str(authority.resolve()))}\n"
    )
    (home / "config.toml").write_text(text, "utf-8")


@dataclass(frozen=True)
class SuperNode:
    """A hospital's network-facing process: it sees no data and no key but its own."""

    name: str
    superlink: str
    authority: Path | None  # None: the system's own authorities
    key: Path
    agent_socket: Path
    home: Path
    port: int  # of its local Runtime API, on loopback

    def command(self, log: Path) -> Command:
        """The SuperNode, which starts one thin ClientApp process for each message."""
        argv = (
            tool("flower-supernode"),
            *("--superlink", self.superlink),
            *(("--root-certificates", str(self.authority)) if self.authority else ()),
            *("--auth-supernode-private-key", str(self.key)),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--node-config", f"agent-socket={json.dumps(str(self.agent_socket))}"),
        )
        return Command(f"{self.name} supernode", argv, environment(self.home), log)


def flwr(home: Path, *arguments: str, timeout: float = 60.0) -> dict[str, object]:
    """Run `flwr ARGUMENTS --format json`; gives its answer or raises `DeploymentError`."""
    try:
        done = subprocess.run(
            [tool("flwr"), *arguments, "--format", "json"],
            env=environment(home),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeploymentError(
            f"`flwr {arguments[0]}` got no answer within {timeout:.0f} s.",
            "Check that the SuperLink runs and that its address is right.",
        ) from None
    try:
        answer: dict[str, object] = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        answer = {"error-message": (done.stderr or done.stdout).strip()[-300:]}
    if not answer.get("success"):
        raise DeploymentError(
            f"`flwr {' '.join(arguments[:2])}` failed: {answer.get('error-message', answer)}",
            "Check that the SuperLink runs, its address and its certificate.",
        )
    return answer

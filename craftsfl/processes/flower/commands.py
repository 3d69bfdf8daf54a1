"""Command lines and environment of Flower's processes.

Why these options (Flower 1.41): the Control, Fleet and Runtime APIs share one port; only process
isolation and a SuperExec secret keep a stranger from taking the ServerApp's task; the update check
and telemetry would call home at every start; a bundle's dependencies must never be installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from craftsfl.processes.environment import CERTIFICATES, MODELS, environment
from craftsfl.processes.flower.credentials import ServerCredentials
from craftsfl.processes.supervisor import Command
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
PROFILE = "consortium"


def program(name: str) -> tuple[str, ...]:
    """How to start one of Flower's programs with this Python; raises `DeploymentError`.

    With -P, although for a script the first folder on the path would be its own and not the working
    folder: nothing that we start may find modules where they were not installed.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise DeploymentError(
            f"{name} is not installed next to {sys.executable}.",
            "Install craftsfl with the extra `site` or `operator`.",
        )
    return (sys.executable, "-P", str(path))


@dataclass(frozen=True)
class SuperLink:
    """Where the coordinator listens and keeps its state."""

    host: str
    port: int
    folder: Path  # database, Flower's home
    credentials: ServerCredentials
    secret: Path
    variables: tuple[str, ...] = ()  # further variables of the environment for the ServerApp

    @property
    def address(self) -> str:
        """`host:port` under which this machine reaches it (and which its certificate names)."""
        host = LOOPBACK if self.host == EVERYWHERE else self.host
        return f"{host}:{self.port}"

    @property
    def home(self) -> Path:
        """FLWR_HOME for the coordinator and for the `flwr` commands sent to it."""
        return self.folder / "flwr"

    def superlink(self, log: Path) -> Command:
        """The SuperLink: TLS, node authentication, process isolation, SQLite."""
        argv = (
            *program("flower-superlink"),
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
        return Command("superlink", argv, self._environment(), log)

    def superexec(self, log: Path) -> Command:
        """The SuperExec that starts the ServerApp's process for each run."""
        argv = (
            *program("flower-superexec"),
            *("--runtime-api-address", self.address),
            *("--root-certificates", str(self.credentials.authority)),
            *("--superexec-auth-secret-file", str(self.secret)),
        )
        return Command("superexec", argv, self._environment(), log)

    def _environment(self) -> dict[str, str]:
        return environment(self.home, allowed=(*MODELS, *CERTIFICATES, *self.variables))

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


def run_flwr(home: Path, *arguments: str, timeout: float = 60.0) -> dict[str, object]:
    """Run `flwr ARGUMENTS --format json` and return its answer; raises `DeploymentError`."""
    try:
        done = subprocess.run(
            [*program("flwr"), *arguments, "--format", "json"],
            env=environment(home, allowed=CERTIFICATES),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeploymentError(
            f"`flwr {arguments[0]}` got no answer within {timeout:.0f} s.",
            "Check that the SuperLink is running and that its address is right.",
            id=ErrorId.SUPERLINK_SILENT,
        ) from None
    try:
        answer: dict[str, object] = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        answer = {"error-message": (done.stderr or done.stdout).strip()[-300:]}
    if not answer.get("success"):
        raise DeploymentError(
            f"`flwr {' '.join(arguments[:2])}` failed: {answer.get('error-message', answer)}",
            "Check that the SuperLink is running, its address and its certificate.",
            id=ErrorId.SUPERLINK_SILENT,
        )
    return answer

"""Command lines and environment of Flower's processes.

Why these options (Flower 1.41 and 1.42): the Control, Fleet and Runtime APIs share one port, so the
SuperLink runs behind our gate (gate.py); only process isolation and a SuperExec secret keep the
ServerApp's task for our SuperExec; the update check and telemetry would call home at every start; a
bundle's dependencies must never be installed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from craftsfl.processes.environment import (
    CERTIFICATES,
    MODELS,
    environment,
    keep_files_private,
)
from craftsfl.processes.flower.credentials import ServerCredentials
from craftsfl.processes.supervisor import Command
from privacy.errors import DeploymentError

LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
EVERYWHERE_6 = "::"  # of both families


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


def _module(name: str) -> tuple[str, ...]:
    """How to start one of our programs around Flower's."""
    return (sys.executable, "-P", "-m", f"craftsfl.processes.flower.{name}")


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
        host = LOOPBACK if self.host in (EVERYWHERE, EVERYWHERE_6) else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def home(self) -> Path:
        """FLWR_HOME for the coordinator."""
        return self.folder / "flwr"

    @property
    def database(self) -> Path:
        """The SuperLink's own database."""
        return self.folder / "superlink.db"

    def prepare(self) -> None:
        """Make its folders, its user's alone, with everything in them."""
        self.home.mkdir(parents=True, exist_ok=True)
        keep_files_private(self.folder)

    def superlink(self, log: Path) -> Command:
        """The SuperLink behind our gate: TLS, node authentication, process isolation, SQLite."""
        argv = (
            *_module("superlink_program"),
            *("--host", self.host, "--port", str(self.port)),
            *("--ssl-ca-certfile", str(self.credentials.authority)),
            *("--ssl-certfile", str(self.credentials.certificate)),
            *("--ssl-keyfile", str(self.credentials.key)),
            "--enable-supernode-auth",
            *("--isolation", "process"),
            *("--superexec-auth-secret-file", str(self.secret)),
            *("--database", str(self.database)),
            "--disable-runtime-dependency-installation",
        )
        return Command("superlink", argv, self._environment(), log, tied=True)

    def superexec(self, log: Path) -> Command:
        """The SuperExec that starts the ServerApp's process for each run."""
        argv = (
            *_module("superexec_program"),
            *("--runtime-api-address", self.address),
            *("--root-certificates", str(self.credentials.authority)),
            *("--superexec-auth-secret-file", str(self.secret)),
            *("--serverapp-log", str(log.with_name("serverapp.log"))),
        )
        return Command("superexec", argv, self._environment(), log, tied=True)

    def _environment(self) -> dict[str, str]:
        return environment(self.home, allowed=(*MODELS, *CERTIFICATES, *self.variables))

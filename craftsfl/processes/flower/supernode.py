"""Flower's own SuperNode at a hospital, for those who run it in place of the gateway.

Its local Runtime API hands out the tasks of the coordinator's bundle. Unless a secret guards it,
any user of the machine can take them and answer in the hospital's name; Flower guards it only where
the processes for the tasks are started by a SuperExec of one's own ("process" isolation).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from craftsfl.processes.accounts import SystemAccount
from craftsfl.processes.environment import CERTIFICATES, environment
from craftsfl.processes.flower.commands import LOOPBACK, program
from craftsfl.processes.supervisor import Command


@dataclass(frozen=True)
class SuperNode:
    """A hospital's network-facing processes; they see no data, and no key but their own."""

    name: str
    superlink: str
    authority: Path | None  # None: the system's own authorities
    key: Path
    agent_socket: Path
    home: Path
    port: int  # of its local Runtime API, on loopback
    secret: Path  # of that API, readable by the gateway's user alone
    variables: tuple[str, ...] = ()  # further variables that the coordinator's code may read
    account: SystemAccount | None = None  # whom root starts it as

    def commands(self, logs: Path, prefix: str = "") -> list[Command]:
        """The SuperNode, and the SuperExec that starts a ClientApp process for each message."""
        node = (
            *program("flower-supernode"),
            *("--superlink", self.superlink),
            *(("--root-certificates", str(self.authority)) if self.authority else ()),
            *("--auth-supernode-private-key", str(self.key)),
            *("--host", LOOPBACK, "--port", str(self.port)),
            *("--node-config", f"agent-socket={json.dumps(str(self.agent_socket))}"),
            *("--isolation", "process"),
            *("--superexec-auth-secret-file", str(self.secret)),
        )
        starter = (
            *program("flower-superexec"),
            *("--runtime-api-address", f"{LOOPBACK}:{self.port}"),
            "--insecure",  # loopback only; each request is signed with the secret
            *("--superexec-auth-secret-file", str(self.secret)),
        )
        return [
            self._command("supernode", node, logs / f"{prefix}supernode.log"),
            self._command("superexec", starter, logs / f"{prefix}superexec.log"),
        ]

    def _command(self, part: str, argv: tuple[str, ...], log: Path) -> Command:
        own = self.account.variables if self.account else {}
        env = environment(self.home, own, allowed=(*CERTIFICATES, *self.variables))
        user = self.account.name if self.account else None
        return Command(f"{self.name} {part}", argv, env, log, user)

"""A hospital's files in a folder, as an administrator would lay them out."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.agent.apart import ONE_USER
from client.app import forward
from privacy.study.manifest import Study
from privacy.wire.bodies import Body
from privacy.wire.envelope import open_envelope

from .masked import write_identity
from .pictures import write_folder
from .studies import POLICY, make_study

ROOT = Path(__file__).parents[2]


def write_hospital(
    folder: Path,
    *,
    study: Study | None = None,
    name: str = "north",
    policy: dict[str, Any] | None = None,
) -> Path:
    """Write tiles of 10 patients, study, policy, identity and site.toml, and return the last."""
    study = study or make_study()
    policy = {**POLICY, **(policy or {})}
    write_folder(folder / "tiles", patients=10)
    write_study(folder / "study.toml", study)
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in policy.items()]
    (folder / "policy.toml").write_text("".join(lines))
    write_identity(folder)
    site = folder / "site.toml"
    site.write_text(
        f'name = "{name}"\nstudy = "study.toml"\npolicy = "policy.toml"\n'
        f'[data]\nfolder = "tiles"\npatient_ids_confirmed = true\n'
        f'[agent]\nstate = "state"\nsocket = "a.sock"\ndevice = "cpu"\n'
        f'[identity]\nkey = "site.key"\nroster = "roster.cfl"\n'
    )
    return site


def write_study(path: Path, study: Study) -> None:
    """Write `study` as TOML."""
    values = study.model_dump(mode="json", exclude_none=True)
    plain = [(key, value) for key, value in values.items() if not _is_table(value)]
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain]
    for key, value in values.items():
        tables = value if _is_table(value) and isinstance(value, list) else [value]
        header = f"[[{key}]]" if isinstance(value, list) else f"[{key}]"
        for table in tables if _is_table(value) else []:
            lines += [header, *(f"{name} = {_inline(item)}" for name, item in table.items())]
    path.write_text("\n".join(lines) + "\n")


def _inline(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{" + ", ".join(f"{name} = {_inline(item)}" for name, item in value.items()) + "}"


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict))


class Hospital:
    """An agent process and the files that it reads."""

    def __init__(
        self,
        folder: Path,
        *,
        module: str = "tests.client.agent_process",
        study: Study | None = None,
        policy: dict[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.site = write_hospital(folder, study=study, policy=policy)
        self.state = folder / "state"
        self.state.mkdir()
        self.arguments = ["-m", module]
        self.become: Callable[[list[str]], list[str]] = list  # another user
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        argv = [sys.executable, *self.arguments, "--site", str(self.site), ONE_USER]
        with (self.folder / "agent.log").open("wb") as log:
            self.process = subprocess.Popen(self.become(argv), cwd=ROOT, stdout=log, stderr=log)

    def terminate(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)  # the machine may be busy
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the agent goes on after SIGTERM; its log:\n{self.log}") from None

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def handle(self, data: bytes) -> bytes:
        return forward(data, str(self.folder / "a.sock")).answer

    def ask(self, data: bytes) -> Body:
        return open_envelope(self.handle(data), limit=1 << 24).body

    def is_serving(self) -> bool:
        with grpc.insecure_channel(f"unix:{self.folder / 'a.sock'}") as channel:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(), timeout=2
                )
            except grpc.RpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert self.process is not None
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)

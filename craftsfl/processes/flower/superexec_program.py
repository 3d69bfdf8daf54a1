"""A SuperExec of our own: it takes a run's task from the SuperLink and starts its ServerApp.

Flower's starts `flwr-serverapp --token …`, whose token every user of the machine can read, and
neither notices nor tells that a ServerApp has died: its run would be called running for another
minute. This one hands the token over by stdin, keeps the ServerApp's output, and reports its end
at once. It takes ServerApps only: no agents, models or connectors, of which a study has none.
"""

# Why: docs/adr/0036-the-operators-plane.md

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from craftsfl.processes.environment import TASK_POLL_SECONDS
from craftsfl.processes.flower.operator_key import operator_key, read_superexec_secret
from craftsfl.processes.flower.shown_key import ShowsKey
from craftsfl.processes.lifeline import PARENT, end_with_parent
from privacy.errors import CraftsflError

if TYPE_CHECKING:
    from flwr.supercore.runtime import RuntimeHttpClient

SERVERAPP: Final = "craftsfl.processes.flower.serverapp_program"
_ACQUIRE: Final = "/flwr.proto.Runtime/AcquireTask"
_AGAIN_SECONDS: Final = 0.5  # after a SuperLink that does not answer
_log = logging.getLogger("superexec")


@dataclass(frozen=True)
class Runtime:
    """The SuperLink's Runtime API, and what it takes to speak to it."""

    address: str
    authority: Path
    secret: bytes

    def client(self, *interceptors: object) -> RuntimeHttpClient:
        """A client that shows the operator's key."""
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
        from flwr.supercore.runtime import RuntimeHttpClient

        version = RuntimeVersionHttpInterceptor(component_name="SuperExec")
        shows = ShowsKey(operator_key(self.secret))
        return RuntimeHttpClient.from_server_address(
            server_address=self.address,
            insecure=False,
            root_certificates=self.authority.read_bytes(),
            interceptors=[version, shows, *interceptors],  # type: ignore[list-item]
        )


@dataclass(frozen=True)
class _Started:
    """A ServerApp's process, and the token of its task."""

    flower_run: int
    token: str
    process: subprocess.Popen[bytes]


class SuperExec:
    """Takes tasks and starts ServerApps, until it is ended."""

    def __init__(self, runtime: Runtime, log: Path) -> None:
        from flwr.supercore.interceptors import SuperExecAuthHttpInterceptor

        signs = SuperExecAuthHttpInterceptor(
            master_secret=runtime.secret, protected_methods=[_ACQUIRE]
        )
        self._runtime = runtime
        self._client = runtime.client(signs)
        self._log = log
        self._started: list[_Started] = []

    def run(self) -> None:
        """Look for tasks five times a second, for as long as the process lives."""
        import httpx

        while True:
            self._report_the_dead()
            try:
                self._take_one()
                time.sleep(float(TASK_POLL_SECONDS))
            except httpx.HTTPError as error:
                _log.warning("The SuperLink does not answer: %s", error)
                time.sleep(_AGAIN_SECONDS)

    def _take_one(self) -> None:
        from flwr.proto.runtime_pb2 import AcquireTaskRequest
        from flwr.supercore.constant import TaskType

        answer = self._client.AcquireTask(
            AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        )
        if answer.HasField("task") and answer.token:
            process = self._serverapp(answer.token)
            self._started.append(_Started(answer.task.run_id, answer.token, process))
            _log.info("Flower run %d: ServerApp %d started.", answer.task.run_id, process.pid)

    def _serverapp(self, token: str) -> subprocess.Popen[bytes]:
        argv = (
            *(sys.executable, "-P", "-m", SERVERAPP),
            *("--runtime-api-address", self._runtime.address),
            *("--root-certificates", str(self._runtime.authority)),
        )
        with contextlib.suppress(FileNotFoundError):
            self._log.replace(self._log.with_suffix(".before.log"))
        with self._log.open("xb") as output:
            process = subprocess.Popen(
                argv,
                env={**os.environ, PARENT: str(os.getpid())},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        key = operator_key(self._runtime.secret)
        # The two lines fit into the pipe. Should it have ended already, that will be noticed.
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                pipe.write(f"{token}\n{key}\n".encode("ascii"))
        return process

    def _report_the_dead(self) -> None:
        for started in self._started.copy():
            code = started.process.poll()
            if code is not None:
                self._started.remove(started)
                _log.info("Flower run %d: ServerApp ended (%d).", started.flower_run, code)
                self._report(started.token, f"The ServerApp ended with status {code}.")

    def _report(self, token: str, details: str) -> None:
        """Tell the SuperLink that a task has failed; if it has ended properly, it knows better."""
        import httpx
        from flwr.common.constant import SubStatus
        from flwr.proto.runtime_pb2 import PushTaskOutputRequest
        from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor

        request = PushTaskOutputRequest(sub_status=SubStatus.FAILED, details=details)
        with self._runtime.client(RuntimeTokenHttpInterceptor(token)) as client:
            try:
                client.PushTaskOutput(request)
            except httpx.HTTPError as error:
                _log.debug("Not reported: %s", error)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description="Start the ServerApps of a SuperLink's runs.")
    parser.add_argument("--runtime-api-address", required=True)
    parser.add_argument("--root-certificates", required=True, type=Path)
    parser.add_argument("--superexec-auth-secret-file", required=True, type=Path)
    parser.add_argument("--serverapp-log", required=True, type=Path)
    options = parser.parse_args()
    end_with_parent()
    logging.raiseExceptions = False  # of a full disk under the log, it would print a traceback
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request
    try:
        secret = read_superexec_secret(options.superexec_auth_secret_file)
    except CraftsflError as error:
        sys.exit(str(error))
    runtime = Runtime(options.runtime_api_address, options.root_certificates, secret)
    SuperExec(runtime, options.serverapp_log).run()


if __name__ == "__main__":
    main()

"""A real SuperLink whose ServerApp does what a script says, and sites whose agents are functions.

For what concerns the way between coordinator and hospital alone. Everything between the script's
`grid` and an agent's function is what a consortium runs.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import client.app
from client.agent.progress import ProgressSource
from client.agent.service import AgentServer, serve
from client.settings import SiteSettings
from craftsfl.processes.flower.commands import SuperLink
from craftsfl.processes.flower.control import answers, register_node, start_flower_run
from craftsfl.processes.flower.credentials import make_authority, make_secret, make_supernode_key
from craftsfl.processes.gateway_command import gateway_commands, make_runtime_secret
from craftsfl.processes.supervisor import StartedProcess, Supervisor, claim_port, wait_until
from craftsfl.rounds.fab import build
from privacy.errors import FederationError

_PROJECT: Final = """\
[project]
name = "scripted"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "scripted"
fab-include = ["scripted/*.py"]
[tool.flwr.app.components]
serverapp = "scripted.app:server"
clientapp = "scripted.client:app"
[tool.flwr.app.config]
script = ""
result = ""
"""
_APP: Final = """\
import json
from pathlib import Path
from flwr.serverapp import ServerApp

server = ServerApp()

@server.main()
def main(grid, context):
    said = {}
    script = Path(str(context.run_config["script"]))
    exec(compile(script.read_text(), str(script), "exec"), {"grid": grid, "said": said})
    result = Path(str(context.run_config["result"]))
    result.with_suffix(".part").write_text(json.dumps(said))
    result.with_suffix(".part").rename(result)
"""
_START_SECONDS: Final = 60.0


class SmallFlower:
    """Everything in `folder`; a context manager that leaves no process behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.supervisor = Supervisor()
        self.port = claim_port("127.0.0.1", None)
        self._sockets = Path(tempfile.mkdtemp(prefix="cfl-"))  # short paths
        self._agents: list[AgentServer] = []
        self._runs = 0
        (folder / "coordinator").mkdir(parents=True)
        self.link = SuperLink(
            "127.0.0.1",
            self.port,
            folder / "coordinator" / "link",
            make_authority(folder / "coordinator" / "tls"),
            make_secret(folder / "coordinator" / "secret"),
        )

    def __enter__(self) -> SmallFlower:
        self.link.prepare()
        self.superlink = self.start_superlink()
        superexec = self.link.superexec(self.folder / "logs" / "superexec.log")
        self.superexec = self.supervisor.start(superexec)
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop()
        for agent in self._agents:
            agent.stop(grace=0)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def start_superlink(self) -> StartedProcess:
        """Start the SuperLink and wait until it answers."""
        started = self.supervisor.start(self.link.superlink(self.folder / "logs" / "superlink.log"))
        wait_until(
            lambda: answers(self.link),
            what="The SuperLink",
            supervisor=self.supervisor,
            timeout=_START_SECONDS,
        )
        return started

    def site(self, name: str, kind: str = "gateway", **gateway: object) -> SiteSettings:
        """The settings of a new site with a key of its own, which is not registered yet."""
        folder = self.folder / name
        make_supernode_key(folder / "supernode.key")
        return SiteSettings.model_validate(
            {
                "name": name,
                "study": folder / "study.toml",
                "policy": folder / "policy.toml",
                "data": {"folder": folder},
                "agent": {"state": folder, "socket": self._sockets / f"{name}.sock"},
                "gateway": {
                    "kind": kind,
                    "superlink": f"localhost:{self.port}",
                    "root_certificates": self.link.credentials.authority,
                    "key": folder / "supernode.key",
                    "home": folder / "gateway",
                    **gateway,
                },
            }
        )

    def register(self, site: SiteSettings) -> int:
        """Admit the site's key; its node's id."""
        return register_node(self.link, self.folder / site.name / "supernode.pub")

    def start_agent(
        self, site: SiteSettings, handler: Callable[[bytes], bytes], limit: int = 1 << 20
    ) -> None:
        """Serve `handler` on the site's socket, in this process."""
        self._agents.append(serve(handler, ProgressSource(), site.socket_path(), limit=limit))

    def start_gateway(self, site: SiteSettings) -> list[StartedProcess]:
        """Start what connects the site: the gateway, or a SuperNode and its SuperExec."""
        if site.gateway is not None and site.gateway.kind == "supernode":
            site.gateway.home.mkdir(exist_ok=True)
            make_runtime_secret(site.gateway.home)
        logs = self.folder / "logs"
        return [
            self.supervisor.start(command)
            for command in gateway_commands(site, logs, prefix=f"{site.name}-")
        ]

    def log(self, site: SiteSettings, part: str = "gateway") -> str:
        """What the site's process has written so far."""
        path = self.folder / "logs" / f"{site.name}-{part}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def begin(self, script: str) -> Path:
        """Start a run whose ServerApp executes `script`; the file with what it has `said` at last.

        In it, `grid` is Flower's, and `said` an empty dictionary for JSON.
        """
        self._runs += 1
        bundle = self.folder / f"bundle-{self._runs}"
        (bundle / "scripted").mkdir(parents=True)
        (bundle / "pyproject.toml").write_text(_PROJECT)
        (bundle / "scripted" / "__init__.py").touch()
        (bundle / "scripted" / "app.py").write_text(_APP)
        shutil.copyfile(Path(client.app.__file__), bundle / "scripted" / "client.py")
        (bundle / "script.py").write_text(script)
        result = bundle / "result.json"
        config: dict[str, str | int] = {
            "script": str(bundle / "script.py"),
            "result": str(result),
        }
        start_flower_run(self.link, build(bundle), config)
        return result

    def wait_for(self, result: Path, seconds: float = 120.0) -> dict[str, object]:
        """What a script has `said`; raises `FederationError` if it takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while not result.exists():
            if time.monotonic() > deadline:
                log = self.folder / "logs" / "serverapp.log"
                words = log.read_text("utf-8", "replace")[-2000:] if log.exists() else ""
                raise FederationError(f"The script said nothing within {seconds:.0f} s.", words)
            time.sleep(0.1)
        said: dict[str, object] = json.loads(result.read_text())
        return said

    def run(self, script: str, seconds: float = 120.0) -> dict[str, object]:
        """Run `script` to its end; what it has `said`."""
        return self.wait_for(self.begin(script), seconds)


# Asks COUNT nodes ROUNDS times, all at once, and says how long each answer took.
ECHO_SCRIPT: Final = """
import time
from privacy.wire.bodies import Hello
from privacy.wire.envelope import Envelope
from server.carrier import CarriedGrid
from server.messages import Exchange, FlowerFailure, Request

exchange = Exchange(CarriedGrid(grid))
while len(exchange.nodes()) < COUNT:
    time.sleep(0.1)
said["seconds"], said["failed"] = [], 0
for number in range(1, ROUNDS + 1):
    sent = dict.fromkeys(exchange.nodes(), time.monotonic())
    exchange.send([Request(n, Envelope(1, number, 1, Hello(bytes(32), n))) for n in sent])
    while sent:
        for reply in exchange.receive():
            said["seconds"].append(time.monotonic() - sent.pop(reply.request.node))
            said["failed"] += isinstance(reply.answer, FlowerFailure)
        time.sleep(0.05)
    time.sleep(PAUSE)
"""


def echo_script(count: int, rounds: int, pause: float = 0.5) -> str:
    """`ECHO_SCRIPT` for `count` nodes, `rounds` times, `pause` seconds apart."""
    return f"COUNT, ROUNDS, PAUSE = {count}, {rounds}, {pause}\n{ECHO_SCRIPT}"

"""A real coordinator and three real hospitals in one folder, whose processes may be killed.

`craftsfl rounds serve` runs SuperLink, SuperExec and the keeper; each hospital's agent and gateway
run under the loop of `craftsfl site serve`. Only the training is quick (`bench.plane_site`).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import psutil
import tomli_w

from bench.plane_site import SITE_FILE, SITE_KEY, SITE_LAYOUT
from bench.plane_study import PLANE_SITES, PlaneStudy
from craftsfl.processes.environment import environment
from craftsfl.processes.flower.commands import SuperLink
from craftsfl.processes.flower.control import answers
from craftsfl.processes.flower.credentials import make_authority, make_secret, make_supernode_key
from craftsfl.processes.supervisor import Command, Supervisor, claim_port, wait_until
from craftsfl.rounds.operator import register_site, start_run, superlink_of
from model.cache import shipped_base
from model.layout_text import encode_layout
from privacy.errors import ModelError
from privacy.identity import make_identity
from privacy.secagg.chain import write_rosters
from privacy.secagg.roster import Member, add_signature, propose_roster
from privacy.study.manifest import load_study
from server.event_lines import LoggedEvent, decode_event
from server.own_key import make_coordinator_key
from server.settings import ConsortiumSettings, load_consortium
from server.status_reader import read_status

PLANE_COORDINATOR_KEY: Final = "coordinator.key"
ROOT_FOLDER: Final = Path(__file__).resolve().parents[1]
PlanePart = Literal["serverapp", "superlink", "superexec", "gateway", "agent"]
_PROGRAMS: Final[dict[PlanePart, str]] = {  # what tells a process from the others
    "serverapp": "craftsfl.processes.flower.serverapp_program",
    "superlink": "craftsfl.processes.flower.superlink_program",
    "superexec": "craftsfl.processes.flower.superexec_program",
    "gateway": "client.gateway",
    "agent": "bench.plane_site",
}
_START_SECONDS: Final = 300.0  # of a machine that others use as well


@dataclass
class Plane:
    """Everything in `folder`. `start` first; `stop` ends every process."""

    folder: Path
    study: PlaneStudy
    supervisor: Supervisor = field(default_factory=Supervisor)
    port: int = field(default_factory=lambda: claim_port("127.0.0.1", None))
    run: int = 0
    _read: int = 0
    _sockets: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="cfl-")))

    @property
    def consortium(self) -> Path:
        """The coordinator's settings file."""
        return self.folder / "coordinator" / "consortium.toml"

    @property
    def settings(self) -> ConsortiumSettings:
        """The coordinator's settings."""
        return load_consortium(self.consortium)

    def start(self) -> None:
        """Write all files, start all processes and the run."""
        self._write()
        link = superlink_of(self.settings)
        self.serve()
        self._wait(link)
        for name in PLANE_SITES:
            register_site(self.consortium, self.folder / name / "supernode.pub")
        self._start_sites()
        self.run = start_run(self.consortium)

    def _wait(self, link: SuperLink) -> None:
        wait_until(
            lambda: answers(link),
            what="The SuperLink",
            supervisor=self.supervisor,
            timeout=_START_SECONDS,
        )

    def _start_sites(self) -> None:
        for name in PLANE_SITES:
            self._run(f"{name} site", "-m", "bench.plane_site", "serve", str(self.folder / name))

    def go_on(self) -> None:
        """Start all processes of an earlier `Plane` of this folder, which has ended."""
        link = superlink_of(self.settings)
        self.port = link.port
        facts = json.loads((self.folder / PLANE_SITES[0] / SITE_FILE).read_text("utf-8"))
        self._sockets = Path(facts["socket"]).parent
        self._sockets.mkdir(mode=0o700, exist_ok=True)
        self._read = self.settings.events_file().stat().st_size
        self.run = read_status(self.settings.database_url()).run
        self.serve()
        self._wait(link)
        self._start_sites()

    def serve(self) -> None:
        """Start `craftsfl rounds serve`."""
        self._run("rounds serve", "-m", "craftsfl", "rounds", "serve", str(self.consortium))

    def stop(self) -> None:
        """End everything."""
        self.supervisor.stop()

    def processes(self, part: PlanePart) -> list[psutil.Process]:
        """Those that run as `part` now."""
        found = []
        for process in psutil.Process().children(recursive=True):
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if _PROGRAMS[part] in words and "serve" not in words:
                found.append(process)
        return found

    def events(self) -> list[LoggedEvent]:
        """The events since the last call."""
        file = self.settings.events_file()
        if not file.exists():
            return []
        data = file.read_bytes()[self._read :]
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        found = [decode_event(line) for line in whole.splitlines()]
        return [event for event in found if event is not None]

    def all_events(self) -> list[LoggedEvent]:
        """Every event so far, whether `events` has given it or not."""
        lines = self.settings.events_file().read_bytes().splitlines(keepends=True)
        found = [decode_event(line) for line in lines if line.endswith(b"\n")]
        return [event for event in found if event is not None]

    def sockets(self) -> list[Path]:
        """The agents' sockets."""
        return [self._sockets / f"{name}.sock" for name in PLANE_SITES]

    def wait_for(self, wanted: Callable[[LoggedEvent], bool], seconds: float) -> LoggedEvent | None:
        """The next such event; None if it does not come within `seconds`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for event in self.events():
                if wanted(event):
                    return event
            time.sleep(0.05)
        return None

    def _run(self, name: str, *words: str) -> None:
        env = environment(
            self.folder / "home", {"PYTHONPATH": str(ROOT_FOLDER), "OMP_NUM_THREADS": "1"}
        )
        log = self.folder / "logs" / f"{name}.log"
        self.supervisor.start(Command(name, (sys.executable, *words), env, log))

    def _write(self) -> None:
        from model.adapters import layout_of

        base = shipped_base()
        if base is None:
            raise ModelError("The tiny base is not installed.", "Run from a full checkout.")
        (self.folder / "study.toml").write_text(tomli_w.dumps(self._study(base)), "utf-8")
        study = load_study(self.folder / "study.toml")
        layout = layout_of(base, study.adapter)
        self._write_coordinator()
        for name in PLANE_SITES:
            folder = self.folder / name
            make_supernode_key(folder / "supernode.key")
            (folder / SITE_LAYOUT).write_bytes(encode_layout(layout))
            facts = {
                "name": name,
                "study": str(self.folder / "study.toml"),
                "roster": str(self.folder / "roster.cfl"),
                "socket": str(self._sockets / f"{name}.sock"),
                "superlink": f"localhost:{self.port}",
                "authority": str(self.consortium.parent / "tls" / "ca.pem"),
                "logs": str(self.folder / "logs"),
            }
            (folder / SITE_FILE).write_text(json.dumps(facts), "utf-8")

    def _study(self, base: Path) -> Mapping[str, Any]:
        members, identities = [], {}
        for number, name in enumerate(PLANE_SITES, start=1):
            (self.folder / name).mkdir(parents=True)
            identities[name] = make_identity(self.folder / name / SITE_KEY)
            members.append(Member(number, name, identities[name].public, f"Hospital {name}"))
        signed = propose_roster(members, 2, consortium="plane")
        for name in PLANE_SITES:
            signed = add_signature(signed, identities[name], None)
        write_rosters(self.folder / "roster.cfl", [signed])
        self.consortium.parent.mkdir()
        public = make_coordinator_key(self.consortium.parent / PLANE_COORDINATOR_KEY)
        return self.study.values(base, signed.roster.digest().hex(), public.hex())

    def _write_coordinator(self) -> None:
        folder = self.consortium.parent
        make_authority(folder / "tls")
        make_secret(folder / "superexec.secret")
        link = {
            "port": self.port,
            "folder": "superlink",
            "authority": "tls/ca.pem",
            "certificate": "tls/server.pem",
            "key": "tls/server.key",
            "secret": "superexec.secret",
        }
        settings = {
            "study": "../study.toml",
            "state": "state",
            "roster": "../roster.cfl",
            "coordinator_key": PLANE_COORDINATOR_KEY,
        }
        whole = {**settings, "device": "cpu", "superlink": link}
        self.consortium.write_text(tomli_w.dumps(whole), "utf-8")

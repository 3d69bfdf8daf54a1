"""Five sites and a coordinator on real Flower processes; training is a number that is added."""

from __future__ import annotations

import hashlib
import json
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from client.settings import SiteSettings
from craftsfl.processes.environment import environment
from craftsfl.processes.flower.credentials import make_authority, make_secret, make_supernode_key
from craftsfl.processes.gateway_command import gateway_commands, make_runtime_secret
from craftsfl.processes.supervisor import (
    Command,
    StartedProcess,
    Supervisor,
    claim_port,
    port_open,
    wait_until,
)
from craftsfl.rounds.operator import register_site, start_run, superlink_of
from craftsfl.rounds.run_display import EventTail
from model.digest import folder_digest
from model.layout import Layout
from privacy.identity import make_identity
from privacy.secagg.chain import write_rosters
from privacy.secagg.roster import Member, add_signature, propose_roster
from privacy.study.agreement import shares_of
from privacy.study.manifest import Study, load_study
from server.checkpoint import load_checkpoint
from server.events import RunEvent
from server.settings import load_consortium
from server.status import RunStatus
from server.status_reader import read_status
from tests.integration import site_process
from tests.integration.consortium import ROOT

COUNT = 5
NAMES = [f"site-{number}" for number in range(COUNT)]
STEPS = {name: 0.001 * (number + 1) for number, name in enumerate(NAMES)}


class FiveSites:
    """Five sites and a coordinator in one folder."""

    def __init__(self, folder: Path, base: Path, values: dict[str, Any], rounds: int) -> None:
        self.folder = folder
        self.runtime = Path(tempfile.mkdtemp(prefix="cfl-"))
        self.port = claim_port("127.0.0.1", None)
        self.layout = self._write_study(base, values, rounds)
        self._write_coordinator()
        for name in NAMES:
            self._write_site(name)
        self.supervisor = Supervisor()
        self.agents: dict[str, StartedProcess] = {}
        self.supernodes: frozenset[str] = frozenset()  # sites with Flower's own in place of ours

    @property
    def consortium(self) -> Path:
        return self.folder / "coordinator" / "consortium.toml"

    @property
    def study(self) -> Study:
        return load_study(self.folder / "study.toml")

    def _write_study(self, base: Path, values: dict[str, Any], rounds: int) -> Layout:
        from model.adapters import layout_of

        identities = {}
        for name in NAMES:
            (self.folder / name).mkdir(parents=True)
            identities[name] = make_identity(self.folder / name / site_process.KEY)
        members = [
            Member(number, name, identities[name].public, f"Hospital {name}")
            for number, name in enumerate(NAMES, start=1)
        ]
        signed = propose_roster(members, 3, consortium="test")
        for name in NAMES[:3]:
            signed = add_signature(signed, identities[name], None)
        write_rosters(self.folder / "roster.cfl", [signed])
        study = {
            **values,
            "rounds": rounds,
            "base": {"digest": folder_digest(base), "source": str(base)},
            "aggregation": {"strategy": "fedavg", "secure_aggregation": "required"},
            "cohort": {"min_sites": 3, "round_deadline": 400.0, "reply_slot": 5.0},
            "sites": [{"name": name, "declared_patients": 100} for name in NAMES],
            "samples": {**values["samples"], "steps": 1},
            "secure_aggregation": {
                "roster": signed.roster.digest().hex(),
                "bound": 0.05,
                "bits": 32,
                "exchange_deadline": 120.0,
            },
        }
        (self.folder / "study.toml").write_text(tomli_w.dumps(study), "utf-8")
        return layout_of(base, self.study.adapter)

    def _write_coordinator(self) -> None:
        folder = self.consortium.parent
        folder.mkdir()
        make_authority(folder / "tls")
        make_secret(folder / "superexec.secret")
        settings = {
            "study": "../study.toml",
            "state": "state",
            "roster": "../roster.cfl",
            "join_deadline": 120.0,
            "device": "cpu",
            "superlink": {
                "port": self.port,
                "folder": "superlink",
                "authority": "tls/ca.pem",
                "certificate": "tls/server.pem",
                "key": "tls/server.key",
                "secret": "superexec.secret",
            },
        }
        self.consortium.write_text(tomli_w.dumps(settings), "utf-8")

    def _write_site(self, name: str) -> None:
        folder = self.folder / name
        make_supernode_key(folder / "supernode.key")
        (folder / site_process.LAYOUT).write_bytes(pickle.dumps(self.layout))
        facts = {
            "name": name,
            "study": str(self.folder / "study.toml"),
            "roster": str(self.folder / "roster.cfl"),
            "socket": str(self.runtime / f"{name}.sock"),
            "step": STEPS[name],
        }
        (folder / site_process.SITE).write_text(json.dumps(facts), "utf-8")

    def start_agent(self, name: str, trap: str = "") -> None:
        """Start a site's agent (again)."""
        module = "tests.integration.site_process"
        argv = (sys.executable, "-m", module, str(self.folder / name), trap)
        extra = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        env = environment(Path("/nonexistent"), extra)
        log = self.folder / "logs" / f"{name}.log"
        self.agents[name] = self.supervisor.start(Command(f"{name} agent", argv, env, log))

    def serve(self, traps: dict[str, str]) -> int:
        """Start everything, and the run; gives its id."""
        link, logs = superlink_of(load_consortium(self.consortium)), self.folder / "logs"
        link.prepare()
        self.supervisor.start(link.superlink(logs / "superlink.log"))
        for name in NAMES:
            self.start_agent(name, traps.get(name, ""))
        self.wait(lambda: port_open("127.0.0.1", self.port), "The SuperLink")
        self.supervisor.start(link.superexec(logs / "superexec.log"))
        keys = [self.folder / name / "supernode.pub" for name in NAMES]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda key: register_site(self.consortium, key), keys))
        for name in NAMES:
            for command in gateway_commands(self._site(name), logs, prefix=f"{name}-"):
                self.supervisor.start(command)
        return start_run(self.consortium)

    def _site(self, name: str) -> SiteSettings:
        """Its settings, as far as they are needed to start what faces the network."""
        folder = self.folder / name
        gateway = {
            "kind": "supernode" if name in self.supernodes else "gateway",
            "superlink": f"localhost:{self.port}",
            "root_certificates": self.consortium.parent / "tls" / "ca.pem",
            "key": folder / "supernode.key",
            "home": folder / "gateway",
        }
        if name in self.supernodes:
            (folder / "gateway").mkdir()
            make_runtime_secret(folder / "gateway")
        return SiteSettings.model_validate(
            {
                "name": name,
                "study": self.folder / "study.toml",
                "policy": folder / "policy.toml",
                "data": {"folder": folder},
                "agent": {"state": folder, "socket": self.runtime / f"{name}.sock"},
                "gateway": gateway,
            }
        )

    def wait(self, ready: Callable[[], bool], what: str) -> None:
        wait_until(ready, what=what, supervisor=self.supervisor, timeout=180.0)

    def follow(self, keep_down: str = "") -> list[RunEvent]:
        """All events to the run's end. A killed agent is started again without its trap: at once,
        or, that of the site `keep_down`, after the round."""
        tail, seen = EventTail(load_consortium(self.consortium).events_file()), []
        tail._offset = 0
        ended = False
        while not ended:
            time.sleep(0.3)
            new = [logged.event for logged in tail.read()]
            seen += new
            names = [event.name for event in new]
            ended = "run-finished" in names or "run-failed" in names
            for name, running in list(self.agents.items()):
                down = running.exit_code() is not None
                if down and (name != keep_down or "round-finished" in names):
                    assert running.exit_code() == -9, running.log_tail()
                    self.supervisor.stop_one(running)
                    self.start_agent(name)
        return seen

    def status(self, run: int) -> RunStatus:
        return read_status(load_consortium(self.consortium).database_url(), run)

    def moved(self, number: int) -> float:
        """By how much the adapter's numbers moved in a round; all by the same."""
        folder = next((self.consortium.parent / "state" / "adapters").glob("*/"))
        before, after = (
            self._adapter(folder / f"round-{which:03d}.npz") for which in (number - 1, number)
        )
        change = after - before
        assert float(np.ptp(change)) < 1e-6
        return float(change.mean())

    def _adapter(self, path: Path) -> np.ndarray:
        return load_checkpoint(path, hashlib.sha256(path.read_bytes()).hexdigest()).adapter


def wanted(study: Study, without: set[str]) -> float:
    shares = shares_of(study)
    names = [name for name in NAMES if name not in without]
    return sum(shares[n] * STEPS[n] for n in names) / sum(shares[n] for n in names)

"""A whole hospital of one ordinary user, `craftsfl site serve`, in a pooled step on real Flower.

Not root, no second user: what keeps the network-facing gateway from patients and keys is Landlock.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bench.plane import Plane
from bench.plane_study import PLANE_SITES, PlaneStudy
from client.confinement.landlock import landlock_abi
from craftsfl.processes.supervisor import Command
from model.cache import shipped_base
from privacy.ledger import State, read_ledger
from scripts.other_users import command_as
from server.events import RunFailed, RunFinished
from server.status_reader import read_status
from tests.client.hospital import ROOT
from tests.client.pictures import write_folder
from tests.users import AGENT, give, needs_users, open_folder

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    needs_users,
    pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock"),
    pytest.mark.skipif(shipped_base() is None, reason="the tiny base is not in this checkout"),
]
WHO = "west"
POLICY = """
epsilon = 1000.0
study_epsilon = 1000.0
delta = 1e-5
studies = ["any"]
bases = ["any"]
mechanisms = ["pooled"]
roster = "{roster}"
min_reply_slot = 1.0
"""
SITE = """
name = "{name}"
study = "study.toml"
policy = "policy.toml"
[data]
folder = "tiles"
patient_ids_confirmed = true
[agent]
state = "state"
socket = "a.sock"
device = "cpu"
[identity]
key = "site.key"
roster = "roster.cfl"
[gateway]
superlink = "localhost:{port}"
root_certificates = "ca.pem"
key = "supernode.key"
home = "gateway"
"""


@dataclass
class WithOneUser(Plane):
    """A consortium in which one hospital is an ordinary user's, with a real trainer."""

    def _run(self, name: str, *words: str) -> None:
        if name != f"{WHO} site":
            super()._run(name, *words)
            return
        site = self._write_own()
        argv = [sys.executable, "-P", "-m", "craftsfl", "site", "serve", str(site)]
        home = {"HOME": str(site.parent), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        log = self.folder / "logs" / f"{WHO}-serve.log"
        self.supervisor.start(Command(name, tuple(command_as(AGENT, argv)), home, log))

    def _write_own(self) -> Path:
        from privacy.study.agreement import roster_in_force
        from privacy.study.manifest import load_study

        own, study = self.folder / WHO, load_study(self.folder / "study.toml")
        for name in ("study.toml", "roster.cfl"):
            shutil.copy(self.folder / name, own)
        shutil.copy(self.consortium.parent / "tls" / "ca.pem", own)
        write_folder(own / "tiles", patients=20, tiles=1)
        roster = roster_in_force(study, own / "roster.cfl").digest().hex()
        (own / "policy.toml").write_text(POLICY.format(roster=roster))
        (own / "site.toml").write_text(SITE.format(name=WHO, port=self.port))
        (own / "state").mkdir(mode=0o700)
        give(own, AGENT)
        return own / "site.toml"

    def of_the_site(self) -> dict[str, psutil.Process]:
        """The ordinary user's processes of this site, by their command lines."""
        found = psutil.process_iter(["uids", "cmdline"])  # None: of one that is ending
        mine = [p for p in found if p.info["uids"] and p.info["uids"].real == AGENT]
        named = {" ".join(process.info["cmdline"] or ()): process for process in mine}
        return {words: process for words, process in named.items() if str(self.folder) in words}


def test_one_ordinary_user_takes_part_in_a_pooled_step() -> None:
    with open_folder() as folder:
        plane = WithOneUser(folder, PlaneStudy(rounds=1, reply_slot=15.0, mode="pooled"))
        try:
            plane.start()
            found = plane.wait_for(lambda e: isinstance(e.event, RunFinished | RunFailed), 380)
            told = (folder / "logs" / f"{WHO}-serve.log").read_text()
            own = plane.of_the_site()
            confined = [
                Path(f"/proc/{process.pid}/status").read_text()
                for words, process in own.items()
                if "client.gateway " in words
            ]
        finally:
            plane.stop()
        assert found is not None, told
        assert isinstance(found.event, RunFinished), found.event
        assert "One user. Airlock: the gateway reads its key" in told
        assert "NO AIRLOCK" not in told
        assert any("client.agent" in words for words in own), list(own)
        assert len(confined) == 1, list(own)
        assert "Seccomp:\t2" in confined[0] and "NoNewPrivs:\t1" in confined[0]
        assert f"Uid:\t{AGENT}\t{AGENT}\t{AGENT}\t{AGENT}" in confined[0]
        status = read_status(plane.settings.database_url(), plane.run)
        (site,) = [site for site in status.sites if site.name == WHO]
        assert site.rounds == 1
        ledger = read_ledger(folder / WHO / "state" / "ledger.sqlite")
        assert [entry.state for entry in ledger.entries()] == [State.COMMITTED]
        for name in PLANE_SITES:  # the other two are quick ones, of the test's own user
            assert name == WHO or (folder / name / "released").exists()
        result = json.loads(plane.settings.result_file().read_text())
        assert {row["name"] for row in result["sites"] if row["masked"]} == set(PLANE_SITES)

"""The first hour, as docs/quickstart.md has it: every line as it stands, to an opened sum."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from client.confinement.landlock import landlock_abi
from client.settings import load_policy
from model.cache import shipped_base
from privacy.ledger import State, read_ledger
from privacy.secagg.chain import in_force, read_rosters
from privacy.study.manifest import load_study
from scripts.quickstart import PAGE, commands_of
from tests.users import _possible, open_folder

ROOT = Path(__file__).parents[2]
NAMES = ("north", "harbour", "hillside")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.ci,
    pytest.mark.timeout(600),
    pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock"),
    pytest.mark.skipif(os.geteuid() == 0 and not _possible(), reason="root has no other user"),
    pytest.mark.skipif(shipped_base() is None, reason="the tiny base is not in this checkout"),
]


def test_the_lines_as_they_stand_lead_to_an_opened_sum() -> None:
    with open_folder() as above:
        folder = above / "it"
        argv = [sys.executable, str(ROOT / "scripts" / "quickstart.py"), "--dir", str(folder)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=580, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        last = done.stdout.splitlines()[-1]
        count = len(commands_of(PAGE.read_text("utf-8")))
        assert re.fullmatch(rf"round 1 after {count} commands, \d+ s", last), last
        study = load_study(folder / "colon" / "study.toml")
        pinned = bytes.fromhex(study.secure_aggregation.roster)
        for name in ("colon", *NAMES):  # the signatures of all came by messages
            roster = in_force(read_rosters(folder / name / "roster.cfl"), pinned)
            assert [member.name for member in roster.members] == list(NAMES)
        for name in NAMES:
            assert load_policy(folder / name / "policy.toml").max_rounds == study.rounds
            entries = read_ledger(folder / name / "state" / "ledger.sqlite").entries()
            assert State.COMMITTED in {entry.state for entry in entries}
            told = (folder / name / "state" / "logs" / "agent.log").read_text()
            assert "one user" in told.lower()  # behind its airlock

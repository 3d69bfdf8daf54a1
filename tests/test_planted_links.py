"""Links that somebody planted where a file is about to be written: none is followed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.agent.cohorts import Cohorts
from client.agent.survivors import SignedSets
from client.data.imagefolder import Quarantined
from client.data.quarantine import write_quarantine
from craftsfl.processes.flower.credentials import make_authority, make_secret, make_supernode_key
from model.lab.stage_one.workspace import claim
from privacy.identity import Identity
from privacy.secagg.card import SiteCard, write_card
from privacy.secagg.chain import write_rosters
from privacy.secagg.roster import Member, propose_roster
from server.checkpoint import save_checkpoint

Write = Callable[[Path], object]

KEY = Identity.generate().public
ROSTER = propose_roster([Member(1, "north", KEY, "A hospital")], 1, consortium="test")
CARD = SiteCard(name="north", organisation="A hospital", public_key=KEY.hex())

# Who writes, the file's name, and the temporary names that it has ever had or could have.
WRITERS: dict[str, tuple[str, Write, tuple[str, ...]]] = {
    "adapters": (
        "round-001.npz",
        lambda file: save_checkpoint(file, np.zeros(3, np.float32), {}),
        ("round-001.npz.part",),
    ),
    "rosters": (
        "roster.cfl",
        lambda file: write_rosters(file, [ROSTER]),
        (f".roster.cfl.{os.getpid()}",),
    ),
    "cards": ("north.card", lambda file: write_card(file, CARD), ("north.card",)),
    "quarantine": (
        "quarantine.csv",
        lambda file: write_quarantine(file, [Quarantined("a.png", "broken")]),
        ("quarantine.csv.new",),
    ),
    "cohorts": (
        "cohorts.json",
        lambda file: Cohorts(file, bytes(32)).narrow(1, (1, 2, 3)),
        (".cohorts.json",),
    ),
    "survivors": (
        "survivors.json",
        lambda file: SignedSets(file, bytes(32)).add((1, 2, 3)),
        (".survivors.json",),
    ),
    "certificates": ("ca.pem", lambda file: make_authority(file.parent), ("ca.pem", "server.pem")),
    "a SuperNode's key": (
        "supernode.key",
        make_supernode_key,
        ("supernode.key", "supernode.pub"),
    ),
    "a secret": ("superexec.secret", make_secret, ("superexec.secret",)),
    "stage one's record": (
        "run.json",
        lambda file: claim(file.parent / "work", {"seed": 1}),
        ("work/run.partial",),
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_planted_link_is_not_followed(tmp_path: Path, name: str) -> None:
    file, write, planted = WRITERS[name]
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.write_bytes(b"untouched")
    for link in planted:
        place = folder / link
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(victim)
    write(folder / file)
    assert victim.read_bytes() == b"untouched"
    assert any(path.is_file() and not path.is_symlink() for path in folder.rglob("*"))
    assert not (folder / file).is_symlink()


def test_what_hospitals_keep_is_theirs_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for name in ("quarantine", "cohorts", "survivors", "a secret"):
            file, write, _ = WRITERS[name]
            write(tmp_path / file)
            assert (tmp_path / file).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)

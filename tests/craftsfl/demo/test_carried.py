"""A demo takes over work from the one before it, and leaves the rest where it is."""

from __future__ import annotations

import stat
import time
from pathlib import Path

from client.agent.state import StateFolder
from craftsfl.demo.carried import carry_over
from craftsfl.demo.pace import SHORTEST
from craftsfl.demo.workspace import DemoOptions, HospitalDraft, Workspace, clear_folder
from craftsfl.demo.workspace import write_workspace as written
from server.settings import load_consortium
from tests.waiting import eventually

NAMES = ("north", "harbour", "hillside")


def demo(folder: Path) -> tuple[Path | None, Workspace]:
    """Where an earlier demo's results are, and a new workspace."""
    earlier = clear_folder(folder)
    members = [HospitalDraft(name, folder / "data" / name, 500) for name in NAMES]
    made = written(DemoOptions(folder), members, "sha256:" + "a" * 64, 12345, SHORTEST)
    made.runtime.rmdir()
    return earlier, made


def test_encoded_tiles_proofs_and_layouts_move_and_nothing_else(tmp_path: Path) -> None:
    nothing, first = demo(tmp_path / "demo")
    assert nothing is None
    carry_over(nothing, first)
    own = load_consortium(first.consortium)
    for folder in (own.layouts_folder(), own.quality_cache()):
        folder.mkdir(parents=True)
        (folder / "file").write_text(folder.name)
    own.events_file().write_text("{}\n")
    for hospital in first.hospitals:
        state = StateFolder(hospital.folder / "state")
        state.cache.mkdir(parents=True)
        (state.cache / "encoded-1.safetensors").write_text(hospital.name)
        state.proof.write_text("{}")
        state.ledger.write_text("spent")

    earlier, second = demo(tmp_path / "demo")
    assert earlier is not None
    carry_over(earlier, second)
    time.sleep(0.2)
    for hospital in second.hospitals:
        state = StateFolder(hospital.folder / "state")
        assert not state.cache.exists()  # it would look like the rest of a lost ledger
        state.ledger.write_text("new")
    states = [StateFolder(hospital.folder / "state") for hospital in second.hospitals]
    assert eventually(lambda: all(state.cache.exists() for state in states))
    for hospital in second.hospitals:
        state = StateFolder(hospital.folder / "state")
        assert (state.cache / "encoded-1.safetensors").read_text() == hospital.name
        assert state.proof.exists()
        assert state.ledger.read_text() == "new"
        assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
        before = earlier / "hospitals" / hospital.name / "state"
        assert [path.name for path in before.iterdir()] == ["ledger.sqlite"]
    own = load_consortium(second.consortium)
    assert (own.layouts_folder() / "file").read_text() == "layouts"
    assert (own.quality_cache() / "file").read_text() == "quality"
    assert not own.events_file().exists()

"""The coordinator's whole machine is lost: its study goes on elsewhere, from a copy."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from bench.plane import Plane
from bench.plane_faults import ledgers_of
from bench.plane_site import RELEASED, SITE_LEDGER, SITE_LOG
from bench.plane_study import PLANE_SITES, PlaneMode, PlaneStudy
from client.agent.log_file import LogFile
from craftsfl.rounds.backup import back_up
from privacy.ledger import read_ledger
from server.events import RoundFinished, RunFailed, RunFinished, RunStarted, RunWaiting
from server.status_reader import read_status
from server.tables import RunState

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(420)]
ROUNDS = 6


@dataclass
class Elsewhere(Plane):
    """The same consortium, whose coordinator has moved to another folder."""

    place: str = ""

    @property
    def consortium(self) -> Path:
        return self.folder / self.place / "consortium.toml"


def end_coordinator(plane: Plane) -> None:
    """As a power cut: `rounds serve` and all that it has started."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if {"rounds", "serve", str(plane.consortium)} <= set(process.cmdline()):
                family = [process, *process.children(recursive=True)]
                for one in family:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.kill()
                psutil.wait_procs(family, 10)


def put_back(plane: Plane, place: str, copy: Path, fixed: Path) -> Elsewhere:
    """Another machine, which the hospitals reach by the same name and port."""
    new = plane.folder / place
    shutil.copytree(fixed, new)
    for name in ("state", "superlink"):
        shutil.copytree(copy / name, new / name)
    moved = Elsewhere(plane.folder, plane.study, plane.supervisor, plane.port, place=place)
    moved._read = moved.settings.events_file().stat().st_size
    moved.run = plane.run
    return moved


def books(plane: Plane) -> list[object]:
    """Everything that the hospitals have charged, and what has left them."""
    return [
        (
            [(e.key, e.state) for e in read_ledger(plane.folder / name / SITE_LEDGER).entries()],
            (plane.folder / name / RELEASED).read_text(),
        )
        for name in PLANE_SITES
    ]


def newest(plane: Plane) -> set[tuple[int, int]]:
    """The newest attempt at each hospital: under way when all was lost, or just done."""
    ledgers = [read_ledger(plane.folder / name / SITE_LEDGER).entries() for name in PLANE_SITES]
    return {(entries[-1].key.round, entries[-1].key.attempt) for entries in ledgers}


@pytest.mark.parametrize("mode", ["threshold", "pooled"])
def test_a_study_goes_on_from_a_copy_and_an_old_copy_is_refused(
    tmp_path: Path, mode: PlaneMode
) -> None:
    plane = Plane(tmp_path, PlaneStudy(rounds=ROUNDS, attempts=3, mode=mode))
    fixed, copy = tmp_path / "fixed", tmp_path / "copy"

    def after(number: int) -> Callable[[object], bool]:
        return lambda e: isinstance(e.event, RoundFinished) and e.event.round == number  # type: ignore[attr-defined]

    try:
        plane.start()
        assert plane.wait_for(after(2), 120)
        kept = back_up(plane.consortium, copy)
        fixed.mkdir()
        for path in plane.consortium.parent.iterdir():  # what the command has named
            if path.name not in ("state", "superlink"):
                assert path.is_dir() or any(str(path) == line for line in kept), (path, kept)
                (shutil.copytree if path.is_dir() else shutil.copy)(path, fixed / path.name)
        end_coordinator(plane)
        shutil.rmtree(plane.consortium.parent)
        harmed = newest(plane)

        moved = put_back(plane, "second", copy, fixed)
        done = read_status(moved.settings.database_url()).rounds_done
        assert done >= 2
        if mode == "pooled":  # what is lost of the log, people have to tell each other
            for name in PLANE_SITES:
                log = LogFile(moved.folder / name / SITE_LOG)
                for origin in log.read():
                    log.forget(origin)
        moved.serve()
        again = moved.wait_for(lambda e: isinstance(e.event, RunStarted), 90)
        assert again is not None and again.event.resumed  # type: ignore[attr-defined]
        first = moved.wait_for(lambda e: isinstance(e.event, RoundFinished | RunFailed), 120)
        assert first is not None and isinstance(first.event, RoundFinished), first
        assert first.event.round == done + 1
        end = moved.wait_for(lambda e: isinstance(e.event, RunFinished | RunFailed), 240)
        assert end is not None and isinstance(end.event, RunFinished), end
        status = read_status(moved.settings.database_url())
        assert (status.run, status.rounds_done) == (plane.run, ROUNDS)
        found = ledgers_of(moved, harmed)
        assert (found.double, found.uncaused) == ({}, {})
        end_coordinator(moved)

        before = books(moved)
        old = put_back(moved, "third", copy, fixed)
        old.serve()
        if mode == "pooled":
            waits = old.wait_for(lambda e: isinstance(e.event, RunWaiting), 240)
            assert waits is not None and "the log" in str(waits.event)
            time.sleep(1.0)
            assert books(old) == before  # nothing was charged, and nothing left
            return
        refused = old.wait_for(lambda e: isinstance(e.event, RunFailed), 240)
        assert refused is not None
        assert isinstance(refused.event, RunFailed)
        assert "older than the site's ledger" in refused.event.reason, refused.event
        assert read_status(old.settings.database_url()).state is RunState.FAILED
        time.sleep(1.0)
        assert books(old) == before  # nothing was charged, and nothing left
    finally:
        plane.stop()

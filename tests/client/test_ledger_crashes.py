"""Killed at any line, a site's next start succeeds, and what was acknowledged is still there.

The process is a fork that ends with `os._exit` at the n-th line of our own code: no `finally`, no
rollback, no destructor runs, as after SIGKILL.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from client.agent.ledger_verbs import migrate_ledger, recover_ledger
from client.agent.own_ledger import is_lost
from client.settings import load_site
from privacy.errors import LedgerError
from privacy.ledger import State, read_ledger
from tests.client.hospital_folder import HospitalFolder, unbound

TRIALS = [8, pytest.param(150, marks=pytest.mark.slow)]
OURS = (
    *("privacy/ledger/", "privacy/transaction", "ledger_note"),
    *("client/agent/own_ledger", "client/agent/ledger_verbs"),
)


def killed_at(line: int, action: Callable[[], object]) -> int:
    """Run `action` in a fork that dies at its `line`-th line of ours; -1, or all its lines."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal count
            if not any(part in frame.f_code.co_filename for part in OURS):
                return None
            if event == "line":
                count += 1
                if count == line:
                    os._exit(9)
            return trace

        status = 1
        try:
            sys.settrace(trace)
            action()
            sys.settrace(None)
            os.write(write, str(count).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as stream:
        told = stream.read()
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == (0 if told else 9)
    return int(told) if told else -1


def copies(
    original: Path, folder: Path, action: Callable[[Path], object], trials: int
) -> list[Path]:
    """Copies of the folder, in each of which `action` was killed somewhere, evenly spread."""
    left_out = shutil.ignore_patterns("tiles")
    whole = shutil.copytree(original, folder / "whole", ignore=left_out)
    lines = killed_at(-1, lambda: action(whole))
    assert lines > trials
    made, rng = [], random.Random(lines)
    for trial in range(trials):
        line = 1 + lines * trial // trials + rng.randrange(lines // trials)
        copy = shutil.copytree(original, folder / f"killed-{line}", ignore=left_out)
        assert killed_at(line, partial(action, copy)) == -1
        made.append(copy)
    return made


def in_folder(folder: Path) -> HospitalFolder:
    """The hospital that lies there already."""
    return HospitalFolder(folder, made=True)


def committed(hospital: HospitalFolder) -> int:
    if is_lost(hospital.state):
        return 0
    entries = read_ledger(hospital.state.ledger).entries()
    return sum(entry.state is State.COMMITTED for entry in entries)


@pytest.mark.parametrize("trials", TRIALS)
@pytest.mark.parametrize("before", [0, 2])
def test_a_start_after_a_crash_at_any_line_succeeds(
    tmp_path: Path, before: int, trials: int
) -> None:
    original = HospitalFolder(tmp_path / "original")
    if before:
        original.spend(*range(1, before + 1))

    def run(folder: Path) -> None:
        in_folder(folder).spend(before + 1)
        in_folder(folder).spend(before + 2)

    for folder in copies(original.folder, tmp_path, run, trials):
        hospital = in_folder(folder)
        left = committed(hospital)
        hospital.spend(before + 9)
        assert committed(hospital) == left + 1 >= before + 1


@pytest.mark.parametrize("trials", TRIALS)
def test_a_migration_that_was_cut_off_goes_on(tmp_path: Path, trials: int) -> None:
    original = unbound(tmp_path / "original")
    original.refused("is missing: it says which ledger")

    def migrate(folder: Path) -> None:
        migrate_ledger(load_site(folder / "site.toml"))

    bound = 0
    for folder in copies(original.folder, tmp_path, migrate, trials):
        hospital = in_folder(folder)
        try:
            hospital.spend(3)  # bound and marked, or as it was before
            bound += 1
        except LedgerError:
            migrate(folder)
            hospital.spend(3)
        assert committed(hospital) == 3
    assert bound < trials


@pytest.mark.parametrize("trials", TRIALS)
def test_a_recovery_that_was_cut_off_goes_on(tmp_path: Path, trials: int) -> None:
    original = HospitalFolder(tmp_path / "original")
    original.spend(1, 2)
    original.spend()  # a start: the note knows of both
    for file in original.state.path.glob("ledger*"):
        file.unlink()

    def recover(folder: Path) -> None:
        recover_ledger(load_site(folder / "site.toml"))

    ended = 0
    for folder in copies(original.folder, tmp_path, recover, trials):
        hospital = in_folder(folder)
        try:
            hospital.spend(3)
            ended += 1
        except LedgerError:
            recover(folder)
            hospital.spend(3)
        assert committed(hospital) == 3
    assert ended < trials

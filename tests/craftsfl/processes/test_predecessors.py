"""One supervisor for a folder, and what a killed one left behind: with real processes and kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from craftsfl.processes import predecessors
from craftsfl.processes.lifeline import PARENT
from craftsfl.processes.predecessors import StartedNote, end_predecessors, sole_supervisor
from craftsfl.processes.supervisor import Command, Supervisor
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")
# Holds the folder, starts a sleeper under its supervisor, says its number, and waits.
HOLDER = """
import sys, time
from pathlib import Path
from craftsfl.processes.predecessors import sole_supervisor
from craftsfl.processes.supervisor import Command, Supervisor
folder = Path(sys.argv[1])
with sole_supervisor(folder, "superlink") as record, Supervisor(record.add) as supervisor:
    command = Command("superlink", tuple(sys.argv[2:]), {}, folder / "log", tied=True)
    print(supervisor.start(command).process.pid, flush=True)
    time.sleep(60)
"""
# Ends with its parent, slowly.
FOLLOWER = """
import signal, sys, time
from craftsfl.processes.lifeline import end_with_parent
end_with_parent()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    with subprocess.Popen(SLEEP) as process:
        yield psutil.Process(process.pid)
        process.kill()


def holder(folder: Path, *argv: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A process that holds `folder`, and what it has started."""
    command = [sys.executable, "-c", HOLDER, str(folder), *(argv or SLEEP)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, psutil.Process(int(process.stdout.readline()))


def gone(process: psutil.Process, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_the_second_is_refused_in_words(tmp_path: Path) -> None:
    process, started = holder(tmp_path)
    with (
        pytest.raises(DeploymentError, match=rf"\({process.pid}\) serves") as caught,
        sole_supervisor(tmp_path, "superlink"),
    ):
        pass
    assert caught.value.id == ErrorId.COORDINATOR_RUNNING
    assert started.is_running()
    with sole_supervisor(tmp_path, "superexec"):  # another part of the folder is free
        pass
    process.send_signal(signal.SIGINT)
    process.wait(10)
    assert gone(started)
    with sole_supervisor(tmp_path, "superlink"):
        pass
    assert not (tmp_path / "superlink.json").exists()


def test_of_many_that_start_together_one_goes_on(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from craftsfl.processes.predecessors import sole_supervisor\n"
        "from privacy.errors import DeploymentError\n"
        "try:\n"
        "    with sole_supervisor(Path(sys.argv[1]), 'superlink'): time.sleep(2)\n"
        "except DeploymentError: sys.exit(7)\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    together = [subprocess.Popen(argv) for _ in range(4)]
    assert sorted(process.wait(30) for process in together) == [0, 7, 7, 7]


@pytest.mark.parametrize("stubborn", [False, True])
def test_what_a_killed_one_left_running_is_ended(
    tmp_path: Path, stubborn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predecessors, "LEFTOVER_SECONDS", 1.0)
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN);" if stubborn else ""
    child = f"import signal, time; {ignore} time.sleep(60)"
    code = (
        f"import signal, subprocess, sys; {ignore} "
        f"subprocess.run([sys.executable, '-c', {child!r}])"
    )
    process, started = holder(tmp_path, sys.executable, "-c", code)
    deadline = time.monotonic() + 10
    while not started.children():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    family = [started, *started.children()]
    if stubborn:
        time.sleep(0.5)
    process.kill()
    process.wait()
    assert all(one.is_running() for one in family)
    with sole_supervisor(tmp_path, "superlink"):
        assert all(gone(one, 0.5) for one in family)


def test_nothing_is_ended_that_is_not_provably_ours(
    tmp_path: Path, sleeper: psutil.Process
) -> None:
    record = StartedNote(tmp_path / "superlink.json")
    record.add("superlink", sleeper.pid)
    (true,) = json.loads((tmp_path / "superlink.json").read_text())
    assert true["pid"] == sleeper.pid
    others = [
        {**true, "started": str(int(true["started"]) + 1)},  # the number has been given again
        {**true, "boot": "another"},
        {**true, "pid": os.getpid()},
        {**true, "pid": 1},
        {**true, "pid": 2**22 + 1},
        {**true, "pid": -1},
        {**true, "folder": "0:0"},
    ]
    texts = [json.dumps([other]) for other in others]
    for text in [*texts, "", "[", "{}", "[1]", "null", '[{"pid": 1}]', "[" * 9999]:
        (tmp_path / "superlink.json").write_text(text)
        end_predecessors(tmp_path / "superlink.json")
        assert sleeper.is_running()
    (tmp_path / "superlink.json").write_text(json.dumps([true]))
    (tmp_path / "superlink.json").chmod(0o666)  # somebody else may have written it
    end_predecessors(tmp_path / "superlink.json")
    assert sleeper.is_running()
    (tmp_path / "superlink.json").chmod(0o600)
    end_predecessors(tmp_path / "superlink.json")
    assert gone(sleeper)


def test_a_copy_of_the_folder_of_one_that_goes_on_ends_nothing(
    tmp_path: Path, sleeper: psutil.Process
) -> None:
    (tmp_path / "one").mkdir()
    StartedNote(tmp_path / "one" / "superlink.json").add("superlink", sleeper.pid)
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    with sole_supervisor(tmp_path / "copy", "superlink"):
        assert sleeper.is_running()
    (tmp_path / "one").rename(tmp_path / "moved")
    with sole_supervisor(tmp_path / "moved", "superlink"):
        assert gone(sleeper)


def test_a_lock_or_record_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "superlink.lock").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(DeploymentError, match="cannot be locked"),
        sole_supervisor(tmp_path, "superlink"),
    ):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    process, started = holder(tmp_path, sys.executable, "-c", FOLLOWER)
    deadline = time.monotonic() + 10
    while "ready" not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert gone(started)


@pytest.mark.parametrize("parent", ["1", "999999"])
def test_a_child_whose_parent_is_gone_already_ends_at_once(parent: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FOLLOWER], env={PARENT: parent}, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGTERM
    assert b"ready" not in done.stdout


def test_without_a_named_parent_nothing_happens() -> None:
    with subprocess.Popen([sys.executable, "-c", FOLLOWER], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()


def test_colours_of_a_log_do_not_reach_the_terminal(tmp_path: Path) -> None:
    code = r"print('\x1b[91mERROR\x1b[0m \x1b]8;;x\x07: it \x1b[1;31mfailed\x1b[m')"
    with Supervisor() as supervisor:
        command = Command("superlink", (sys.executable, "-c", code), {}, tmp_path / "log")
        started = supervisor.start(command)
        started.process.wait(10)
        with pytest.raises(DeploymentError) as caught:
            supervisor.check()
    assert "\x1b" not in caught.value.message
    assert "ERROR" in caught.value.message
    assert "it failed" in caught.value.message

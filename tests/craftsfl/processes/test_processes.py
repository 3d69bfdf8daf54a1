"""Nothing that a supervisor started survives it."""

from __future__ import annotations

import ast
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from craftsfl.processes.supervisor import Command, Supervisor, claim_port, port_open, wait_until
from privacy.errors import DeploymentError


def command(tmp_path: Path, code: str, name: str = "child") -> Command:
    return Command(
        name,
        (sys.executable, "-c", textwrap.dedent(code)),
        dict(os.environ),
        tmp_path / f"{name}.log",
    )


def wait_for(path: Path) -> int:
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(path.read_text())


GRANDCHILD = """
    import pathlib, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]{options})
    pathlib.Path({file!r}).write_text(str(child.pid))
    time.sleep(600)
"""


def test_only_a_program_that_ends_with_its_parent_is_told_who_that_is(tmp_path: Path) -> None:
    """What a SuperNode is given, the coordinator's bundle inherits."""
    told = {}
    with Supervisor() as supervisor:
        for tied in (False, True):
            code = "import os; print(sorted(os.environ.items()))"
            one = command(tmp_path, code, f"tied {tied}")
            given = replace(one, env={"PATH": os.environ["PATH"]}, tied=tied)
            supervisor.start(given).process.wait(20)
            told[tied] = {name for name, _ in ast.literal_eval(one.log.read_text())}
    assert told[False] <= {"PATH", "LC_CTYPE"}  # Python's own
    assert told[True] - told[False] == {"CRAFTSFL_PARENT"}


@pytest.mark.parametrize("options", ["", ", start_new_session=True"])
def test_stop_ends_children_of_children(tmp_path: Path, options: str) -> None:
    file = tmp_path / "pid"
    with Supervisor() as supervisor:
        supervisor.start(command(tmp_path, GRANDCHILD.format(options=options, file=str(file))))
        grandchild = wait_for(file)
        assert psutil.pid_exists(grandchild)
    assert not psutil.pid_exists(grandchild)


def test_an_interrupt_in_the_instant_of_the_start_orphans_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Supervisor() as supervisor:
        supervisor.start(command(tmp_path, "import time; time.sleep(600)"))
    assert len(started) == 1 and started[0].poll() is not None
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_orphan_in_the_session_of_a_dead_process_is_ended(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    code = GRANDCHILD.format(options="", file=str(file)).replace(
        "time.sleep(600)\n", "sys.exit(3)\n"
    )
    code = code.replace('"import time; sys.exit(3)', '"import time; time.sleep(600)')
    with Supervisor() as supervisor:
        running = supervisor.start(command(tmp_path, code))
        orphan = wait_for(file)
        running.process.wait(10)
        assert psutil.pid_exists(orphan)
    assert not psutil.pid_exists(orphan)


def test_a_process_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craftsfl.processes.supervisor.TERMINATION_SECONDS", 0.5)
    file = tmp_path / "pid"
    code = f"""
        import os, pathlib, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path({str(file)!r}).write_text(str(os.getpid()))
        time.sleep(600)
    """
    with Supervisor() as supervisor:
        supervisor.start(command(tmp_path, code))
        stubborn = wait_for(file)
    assert not psutil.pid_exists(stubborn)


def test_a_dead_process_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        running = supervisor.start(command(tmp_path, "print('out of coffee'); raise SystemExit(3)"))
        running.process.wait(10)
        with pytest.raises(DeploymentError, match=r"status 3:\nout of coffee"):
            supervisor.check()


def test_a_web_servers_own_lines_are_not_shown(tmp_path: Path) -> None:
    lines = ["INFO:     Started server process [7]", "INFO:     Application startup complete."]
    lines += ["INFO:     Uvicorn running on https://127.0.0.1:1 (Press CTRL+C to quit)"]
    lines += ['INFO:     127.0.0.1:50512 - "POST /v1/fleet/pull HTTP/1.1" 200 OK']
    lines += ["INFO:     Shutting down", "INFO:     Finished server process [7]"]
    code = f"print('the cause'); [print(line) for line in {lines!r} * 9]; raise SystemExit(2)"
    with Supervisor() as supervisor:
        running = supervisor.start(command(tmp_path, code))
        running.process.wait()
        assert running.log_tail() == "the cause"


def test_waiting_stops_when_a_process_dies(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        supervisor.start(command(tmp_path, "raise SystemExit(4)"))
        with pytest.raises(DeploymentError, match="status 4"):
            wait_until(lambda: False, what="It", supervisor=supervisor, timeout=20)


def test_waiting_has_an_end() -> None:
    with Supervisor() as supervisor, pytest.raises(DeploymentError, match="It did not come up"):
        wait_until(lambda: False, what="It", supervisor=supervisor, timeout=0.2)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = Command("ghost", (str(tmp_path / "ghost"),), {}, tmp_path / "log")
    with (
        Supervisor() as supervisor,
        pytest.raises(DeploymentError, match="ghost cannot be started"),
    ):
        supervisor.start(missing)


def test_a_taken_port_is_refused_and_a_free_one_found() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port_open("127.0.0.1", port)
        with pytest.raises(DeploymentError, match=f"Port {port} on 127.0.0.1"):
            claim_port("127.0.0.1", port)
        with pytest.raises(DeploymentError, match=r"or choose another port: --port\."):
            claim_port("127.0.0.1", port, "--port")
    free = claim_port("127.0.0.1", None)
    assert not port_open("127.0.0.1", free)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_to_the_owner_end_the_children(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "pid"
    child_code = f"""
        import os, pathlib, time
        pathlib.Path({str(file)!r}).write_text(str(os.getpid()))
        time.sleep(600)
    """
    owner = f"""
        import os, sys, time, pathlib
        from craftsfl.processes.supervisor import Command, Supervisor, ended_by_signals
        argv = (sys.executable, "-c", {textwrap.dedent(child_code)!r})
        log = pathlib.Path({str(tmp_path / "log")!r})
        try:
            with ended_by_signals(), Supervisor() as supervisor:
                supervisor.start(Command("c", argv, dict(os.environ), log))
                time.sleep(600)
        except KeyboardInterrupt:
            sys.exit(130)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(owner)])
    child = wait_for(file)
    process.send_signal(number)
    assert process.wait(20) == 130
    assert not psutil.pid_exists(child)

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from server import life
from server.life import RunInterrupted, Serving, exclusively, is_held, last_serving, now_serving

HOLD = """
import sys, time
from pathlib import Path
from server.life import serving
with serving(Path(sys.argv[1]), 3, 2**63 + 1):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(lock: Path) -> subprocess.Popen[str]:
    """A process that serves, as a ServerApp does."""
    command = [sys.executable, "-c", HOLD, str(lock)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_kernel_says_when_a_serverapp_has_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "_PATIENCE_SECONDS", 0.3)
    lock = tmp_path / "state" / "serverapp.lock"
    assert now_serving(lock) is None
    assert last_serving(lock) is None
    process = holder(lock)
    me = Serving(3, 2**63 + 1, process.pid)
    try:
        assert now_serving(lock) == me
        with exclusively(lock) as alone:
            assert not alone
        os.kill(process.pid, signal.SIGSTOP)  # it cannot say that it lives; it need not
        assert now_serving(lock) == me
        with pytest.raises(RunInterrupted, match="Another ServerApp"), life.serving(lock, 3, 8):
            pass
    finally:
        process.kill()
        process.wait()
    assert now_serving(lock) is None
    assert last_serving(lock) == me
    with life.serving(lock, 4, 9):
        assert now_serving(lock) == Serving(4, 9, os.getpid())
    assert last_serving(lock) == Serving(4, 9, os.getpid())


def test_a_look_does_not_keep_a_serverapp_out(tmp_path: Path) -> None:
    lock = tmp_path / "serverapp.lock"
    with exclusively(lock) as alone:
        assert alone
        assert is_held(lock)
    with life.serving(lock, 1, 2):
        pass


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"run": 1}'])
def test_a_file_that_says_nothing_is_nobody_s(tmp_path: Path, text: bytes) -> None:
    lock = tmp_path / "serverapp.lock"
    lock.write_bytes(text)
    assert last_serving(lock) is None
    with exclusively(lock):
        assert now_serving(lock) == Serving(0, 0, 0)  # somebody is just beginning

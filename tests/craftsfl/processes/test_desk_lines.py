"""Lines from a gateway's log reach the desk; whoever has taken the gateway over can do no more."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

import pytest

from client.agent.boundary import configure_logs
from craftsfl.processes.desk_lines import AGENTS, DeskLines


def test_only_lines_for_the_desk_are_read_and_each_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("2026-11-27 08:00:00 desk: from an earlier start\n")
    lines = DeskLines(log)
    with log.open("a") as stream:
        stream.write("2026-11-27 08:01:00 desk: Connected.\nsomething of Flower's\nhalf ")
    assert list(lines.read()) == ["Connected."]
    assert list(lines.read()) == []
    with log.open("a") as stream:
        stream.write("desk: a line\n")
    assert list(lines.read()) == ["a line"]


def test_a_log_that_is_not_there_yet_or_was_replaced(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = DeskLines(log)
    assert list(lines.read()) == []
    log.write_text("12 desk: one\n" * 3)
    assert list(lines.read()) == ["one"] * 3
    log.write_text("12 desk: two\n")
    assert list(lines.read()) == ["two"]


def test_a_hostile_log_cannot_move_the_terminal_or_be_elsewhere(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = DeskLines(log)
    log.write_bytes(b"1 desk: \x1b[2J\x00\xff" + b"x" * 5000 + b"\n")
    (line,) = lines.read()
    assert "\x1b" not in line
    assert len(line) < 1100
    (tmp_path / "secret").write_text("1 desk: root's file\n")
    log.unlink()
    log.symlink_to(tmp_path / "secret")
    assert list(lines.read()) == []
    log.unlink()
    os.mkfifo(log)  # reading it must not wait for a writer
    assert list(lines.read()) == []


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lines = DeskLines(log)
    with log.open("wb") as stream:
        for _ in range(50):
            stream.write(b"x" * 100_000)
            stream.flush()
            list(lines.read())
    assert len(lines._rest) <= 1000


def test_an_agents_warnings_and_errors_are_for_the_desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the form in which agent and trainer write them."""
    log = tmp_path / "log"
    lines = DeskLines(log, AGENTS)
    own = logging.getLogger("craftsfl")
    for name in ("handlers", "level", "propagate"):
        monkeypatch.setattr(own, name, getattr(own, name))
    for owner, name in ((sys, "excepthook"), (threading, "excepthook")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    configure_logs("Trainer: ")
    with log.open("w") as stream:
        (handler,) = own.handlers
        handler.setStream(stream)
        own.info("Round 1, attempt 1: training. An ERROR of the past.")
        own.warning("tile-7.png is left out.")
        own.error("The trainer ended: MemoryError")
    assert list(lines.read()) == [
        "Trainer: tile-7.png is left out.",
        "Trainer: The trainer ended: MemoryError",
    ]

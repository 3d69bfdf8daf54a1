"""Lines from a gateway's log reach the desk; whoever has taken the gateway over can do no more."""

from __future__ import annotations

import os
from pathlib import Path

from craftsfl.processes.desk_lines import DeskLines


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

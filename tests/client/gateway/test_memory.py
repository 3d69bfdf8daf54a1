"""What a gateway remembers, where it is kept, and that two cannot share it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from client.gateway import memory
from client.gateway.memory import NodeFile, Remembered
from privacy.errors import DeploymentError


def test_it_is_read_back_after_the_process_is_gone(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from client.gateway.memory import *\n"
        "NodeFile(Path(sys.argv[1])).write(Remembered(2**63 + 1, b'carried'))\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "home")], check=False)
    assert done.returncode == -9
    assert NodeFile(tmp_path / "home").read() == Remembered(2**63 + 1, b"carried")
    assert (tmp_path / "home" / "node.json").stat().st_mode & 0o777 == 0o600


def test_a_shorter_one_replaces_a_longer_one(tmp_path: Path) -> None:
    file = NodeFile(tmp_path)
    file.write(Remembered(5, os.urandom(5000)))
    file.write(Remembered(5))
    assert file.read() == Remembered(5)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"boot": 1}', '{"boot": "", "node": "x"}', "\xff"]
)
def test_damage_is_nothing_remembered(tmp_path: Path, text: str) -> None:
    (tmp_path / "node.json").write_text(text, "latin-1")
    assert NodeFile(tmp_path).read() == Remembered()


def test_a_copy_on_another_machine_does_not_take_over_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    NodeFile(tmp_path / "a").write(Remembered(5))
    text = (tmp_path / "a" / "node.json").read_text()
    assert json.loads(text)["boot"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "node.json").write_text(text)
    assert NodeFile(tmp_path / "b").read() == Remembered(5)
    monkeypatch.setattr(memory, "_BOOT", tmp_path / "boot")
    (tmp_path / "boot").write_text("another start\n")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "node.json").write_text(text)
    assert NodeFile(tmp_path / "c").read() == Remembered()


def test_a_second_gateway_with_the_same_home_is_told(tmp_path: Path) -> None:
    first = NodeFile(tmp_path)
    with pytest.raises(DeploymentError, match="Another gateway runs with"):
        NodeFile(tmp_path)
    assert first.read() == Remembered()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "node.json").symlink_to(tmp_path / "victim")
    with pytest.raises(DeploymentError, match="cannot be written"):
        NodeFile(tmp_path)
    assert (tmp_path / "victim").read_text() == "precious"

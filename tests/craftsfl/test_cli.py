"""The command line: what it shows, and that errors are text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from craftsfl.cli import app
from tests.client.hospital import write_hospital


def craftsfl(*arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from craftsfl.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_help_shows_the_groups() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    for group in ("demo", "site", "rounds", "model"):
        assert group in text


@pytest.mark.parametrize(
    "group, commands",
    [
        (["site"], ["init", "serve", "withdraw", "restore", "budget"]),
        (["rounds"], ["serve", "register", "start", "status", "roster"]),
        (["model"], ["pretrain", "install", "sample"]),
    ],
)
def test_groups_show_their_commands(group: list[str], commands: list[str]) -> None:
    text = CliRunner().invoke(app, [*group, "--help"]).output
    for command in commands:
        assert command in text


def test_the_command_line_imports_nothing_heavy() -> None:
    code = (
        "import sys, craftsfl.cli; "
        "print([m for m in ('torch', 'flwr', 'mlflow', 'grpc', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments, says, next_step",
    [
        (["site", "serve", "nowhere.toml"], "nowhere.toml does not exist", "Check the path"),
        (["rounds", "status", "nowhere.toml"], "nowhere.toml does not exist", "Check the path"),
        (["demo", "--data", "nowhere"], "nowhere is not a folder", "Give a folder"),
        (["model", "sample", "x", "--out", "grid.jpg"], "grid.jpg is no PNG", "something.png"),
    ],
)
def test_bad_input_is_answered_in_words(arguments: list[str], says: str, next_step: str) -> None:
    done = craftsfl(*arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert next_step in done.stderr
    assert "Traceback" not in done.stderr


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    done = craftsfl("demo", "--dir", str(tmp_path))
    assert done.returncode == 1
    assert "no earlier demo made it" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unknown_key_is_answered_with_the_nearest_known(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('nam = "north"\n')
    done = craftsfl("site", "serve", str(file))
    assert done.returncode == 1
    assert "unknown key nam (did you mean name?)" in done.stderr


@pytest.mark.parametrize("command", ["budget", "withdraw"])
def test_a_path_that_the_system_refuses_is_told_in_words(tmp_path: Path, command: str) -> None:
    site = write_hospital(tmp_path)
    site.write_text(site.read_text().replace('"state"', f'"{"x" * 300}"'))
    done = craftsfl("site", command, str(site), *(["p"] if command == "withdraw" else []))
    assert done.returncode == 1
    assert "File name too long" in " ".join(done.stderr.split())
    assert "Next:" in done.stderr
    assert "Traceback" not in done.stderr

"""The command line: what it shows, and that errors are text."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import typer
from typer.testing import CliRunner

from craftsfl import cli, terminal
from craftsfl.cli import app, options
from craftsfl.terminal import output, progress, say, show_from
from tests.client.hospital import write_hospital
from tests.craftsfl.called import call, craftsfl


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
        (["model", "sample", "x", "--out", "grid.jpg"], "grid.jpg is not a PNG", "something.png"),
    ],
)
def test_bad_input_is_answered_in_words(arguments: list[str], says: str, next_step: str) -> None:
    done = call(*arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert next_step in done.stderr
    assert "Traceback" not in done.stderr


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    done = call("demo", "--dir", tmp_path)
    assert done.returncode == 1
    assert "no earlier demo made it" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unknown_key_is_answered_with_the_nearest_known(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('nam = "north"\n')
    done = call("site", "serve", file)
    assert done.returncode == 1
    assert "unknown key nam (did you mean name?)" in done.stderr


@pytest.mark.parametrize("command", ["budget", "withdraw"])
def test_a_path_that_the_system_refuses_is_told_in_words(tmp_path: Path, command: str) -> None:
    site = write_hospital(tmp_path)
    site.write_text(site.read_text().replace('"state"', f'"{"x" * 300}"'))
    done = call("site", command, site, *(["p"] if command == "withdraw" else []))
    assert done.returncode == 1
    assert "File name too long" in " ".join(done.stderr.split())
    assert "Next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_the_installed_one() -> None:
    assert craftsfl("--version").stdout == f"craftsfl {importlib.metadata.version('craftsfl')}\n"


@pytest.mark.parametrize(
    "typed, offered",
    [
        ("craftsfl si", "site"),
        ("craftsfl site wi", "withdraw"),
        ("craftsfl site serve --on", "--only"),
    ],
)
def test_a_shell_completes_commands_and_options(typed: str, offered: str) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    done = subprocess.run(
        [Path(sys.executable).with_name("craftsfl")],
        env={**os.environ, **words, "_CRAFTSFL_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert offered in done.stdout.split(), done.stderr


@pytest.mark.parametrize(
    "module, extra", [("mlflow", "operator"), ("torch", "site"), ("skimage", "model")]
)
def test_a_missing_extra_is_named(module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ModuleNotFoundError(name=f"{module}.some.part")

    monkeypatch.setattr(cli, "app", missing)
    done = call()
    assert done.returncode == 1
    assert f"Error: {module} is not installed. It comes with the extra {extra}" in done.stderr
    assert f'pip install "craftsfl[{extra}]"' in done.stderr


@pytest.mark.parametrize(
    "why, said",
    [
        (ModuleNotFoundError(name="accelerate"), "accelerate is not installed"),
        (ImportError("libx.so: no such file", name="torch._C"), "torch is installed, and cannot"),
    ],
)
def test_an_import_that_failed_inside_a_library_is_named(
    why: ImportError, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:  # as diffusers and transformers do it
        raise RuntimeError("Failed to import diffusers.models") from why

    monkeypatch.setattr(cli, "app", broken)
    done = call()
    assert done.returncode == 1 and said in done.stderr
    assert "craftsfl" in done.stderr.partition("Next: ")[2]


def test_a_message_that_is_piped_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100) / ("y" * 100) / "site.toml"
    done = craftsfl("site", "serve", str(path), COLUMNS="40")
    assert f"{path} does not exist." in done.stderr
    assert len(done.stderr.splitlines()) == 3  # what, what next, and its id


def test_a_terminal_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    assert not output().soft_wrap
    assert output().width == 40


@pytest.fixture
def shown() -> Iterator[None]:
    yield
    show_from(logging.INFO)


@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize(
    "flags, seen",
    [
        (["-v"], ["argv", "phase", "restart"]),
        ([], ["phase", "restart"]),
        (["-q"], ["restart"]),
        (["--log-level", "error"], []),
    ],
)
def test_how_much_is_shown(flags: list[str], seen: list[str]) -> None:
    program = typer.Typer()
    program.callback()(options)

    @program.command()
    def serve() -> None:
        say("argv", logging.DEBUG)
        say("phase")
        say("restart", logging.WARNING)
        progress().print("progress")
        output().print("result")

    result = CliRunner().invoke(program, [*flags, "serve"])
    assert result.stderr.split() == seen
    assert result.stdout.split() == (["progress"] if "phase" in seen else []) + ["result"]


def test_one_of_the_levels_is_given() -> None:
    done = call("-q", "-v", "site", "serve", "x")
    assert done.returncode == 2
    assert "Give one of" in done.stderr


def test_a_full_disk_is_told_in_words_although_the_system_names_no_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123 - a device
            full.write(b"x")

    monkeypatch.setattr(cli, "app", failing)
    with pytest.raises(SystemExit):
        cli.main()
    told = capsys.readouterr().err
    assert "A file cannot be used: No space left on device." in told
    assert "free space" in told


def test_a_message_that_has_no_room_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def full() -> NoReturn:
        asked.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(terminal, "errors", full)
    say("The disk is full.", logging.ERROR)
    assert asked == [1]

"""Every command's help, as a person sees it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click
import pytest
import typer
from typer.testing import CliRunner

from craftsfl.cli import app

PATHS = {"demo", "site serve", "rounds roster propose", "model margin", "model sample"}


def commands(
    group: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


EVERY = dict(commands(typer.main.get_command(app)))


def words(text: str) -> str:
    """Without the folds, the frame of a table and the spaces between its columns."""
    return re.sub(r"[\s│╭╮╰╯─]+", "", text)


def rendered(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, flag: str) -> str:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 2000)
    result = CliRunner().invoke(app, [*path, flag])
    assert result.exit_code == 0, result.output
    return words(result.output)


def test_all_commands_are_looked_at() -> None:
    assert {" ".join(path) for path in EVERY} >= PATHS


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_no_word_of_a_help_text_is_lost(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Square brackets mean a style to what draws the help, and vanish with what is in them."""
    text, command = rendered(path, monkeypatch, "--help"), EVERY[path]
    own = [inspect.cleandoc(command.help or "")]
    own += [getattr(parameter, "help", None) or "" for parameter in command.params]
    for each in own:
        assert words(each) in text
    assert command.help


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_the_short_flag_shows_the_same(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert rendered(path, monkeypatch, "-h") == rendered(path, monkeypatch, "--help")

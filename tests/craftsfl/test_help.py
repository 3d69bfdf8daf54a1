"""Every command's help, as a person sees it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache

import click
import pytest
import typer
from typer.testing import CliRunner

from craftsfl.cli import app

TERMINAL = 80  # columns
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


@cache
def rendered(path: tuple[str, ...], flag: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.rich_utils.MAX_WIDTH", 2000)
        result = CliRunner().invoke(app, [*path, flag])
    assert result.exit_code == 0, result.output
    return words(result.output)


def test_all_commands_are_looked_at() -> None:
    assert {" ".join(path) for path in EVERY} >= PATHS


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_no_word_of_a_help_text_is_lost(path: tuple[str, ...]) -> None:
    """Square brackets mean a style to what draws the help, and vanish with what is in them."""
    text, command = rendered(path, "--help"), EVERY[path]
    own = [inspect.cleandoc(command.help or "")]
    own += [getattr(parameter, "help", None) or "" for parameter in command.params]
    for each in own:
        assert words(each) in text
    assert command.help


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_the_short_flag_shows_the_same(path: tuple[str, ...]) -> None:
    assert rendered(path, "-h") == rendered(path, "--help")


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_argument_is_explained(path: tuple[str, ...]) -> None:
    arguments = [each for each in EVERY[path].params if isinstance(each, click.Argument)]
    for argument in arguments:
        assert getattr(argument, "help", None), argument.name


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_a_terminal_need_not_break_a_line_of_a_later_paragraph(path: tuple[str, ...]) -> None:
    """Typer joins only the first paragraph's lines; a broken one leaves a ragged rest."""
    _, *later = inspect.cleandoc(EVERY[path].help or "").split("\n\n")
    for line in "\n".join(later).splitlines():
        assert len(line) <= TERMINAL - 2, line


def test_a_mistyped_command_gets_one_suggestion() -> None:
    for path in ("demp", "site budgt", "rounds statu", "rounds roster sing", "model samle"):
        result = CliRunner().invoke(app, path.split())
        assert result.exit_code == 2
        assert words(result.output).count("Didyoumean") == 1

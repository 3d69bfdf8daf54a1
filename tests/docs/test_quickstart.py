"""docs/quickstart.md: how many commands it takes at each desk, and that they are commands."""

from __future__ import annotations

import copy
import shlex
from collections import Counter

import click
import pytest
import typer

from craftsfl.cli import app
from scripts.quickstart import PAGE, commands_of

LINES = commands_of(PAGE.read_text("utf-8"))
HOSPITALS = ("north", "harbour", "hillside")


def desk_of(line: str) -> str:
    words = shlex.split(line)
    if words[1] == "rounds":
        return "operator"
    return next(name for name in HOSPITALS if words[3].startswith(name))


def test_four_commands_at_one_desk_and_three_at_each_other() -> None:
    counted = Counter(map(desk_of, LINES))
    assert counted == {"operator": 4, **dict.fromkeys(HOSPITALS, 3)}


def test_one_file_goes_up_and_one_comes_down() -> None:
    """What a desk reads of another's: the operator the cards, a hospital the invitation."""
    read: dict[str, set[str]] = {}
    for line in LINES:
        own = "colon" if desk_of(line) == "operator" else desk_of(line)
        for word in shlex.split(line)[3:]:
            if "/" in word and not word.startswith((own, "tiles")):
                read.setdefault(own, set()).add(word)
    assert read == {
        "colon": {f"{name}/{name}.card" for name in HOSPITALS},
        **{name: {"colon/invitation.cfl"} for name in HOSPITALS},
    }


@pytest.mark.parametrize("line", LINES)
def test_every_line_is_a_command_with_its_options(line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "craftsfl"
    command: click.Command = typer.main.get_command(app)
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    # Parses, and runs nothing; a copy, because a command keeps the help option that it got here.
    copy.copy(command).make_context(command.name, words)

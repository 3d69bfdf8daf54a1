"""Every `craftsfl ...` in a text, a page or a script is a command that there is, with its options.

Whoever reads "Next: craftsfl rounds start" types that. What stands in capitals, in angle brackets
or between dots is a place for the reader's own; everything else has to be what the parser takes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import click
import pytest
import typer

from craftsfl.cli import app

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("client", "craftsfl", "model", "privacy", "server", "strategies", "bench")
PAGES: Final = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "Makefile")),
        *(page for page in (ROOT / "docs").rglob("*.md") if "adr" not in page.parts),
        *(ROOT / "examples").glob("*.md"),
    ]
)
# "craftsfl", then the words of a command: small letters, or options.
_NAMED: Final = re.compile(
    r"(?<![\w/.-])craftsfl((?:[ \t\n]+(?:-[\w-]+|[a-z][a-z0-9-]*))+)(?![\w/.@=:(]|-\w)"
)
# What stands before a command line if there is no such command: a sentence goes on otherwise.
_LABELS: Final = (["secure", "aggregation"], ["sealed", "steps"])  # of hashes, in docs
_MARKED: Final = ("`", ": ", "$ ", "\n    ", "sudo ", "bin/")


@cache
def root_command() -> click.Group:
    command = typer.main.get_command(app)
    assert isinstance(command, click.Group)
    return command


def fault_of(words: list[str]) -> str:
    """What the real parser has not, of the words of a command line; "" if it has everything."""
    command: click.Command = root_command()
    place = "craftsfl"
    rest = list(words)
    while rest and rest[0].startswith("-"):
        if fault := _option_fault(command, rest.pop(0), place):
            return fault
    while isinstance(command, click.Group) and rest:
        name = rest.pop(0)
        if name.startswith("-"):
            if fault := _option_fault(command, name, place):
                return fault
            continue
        if name not in command.commands:
            return f"{place} has no command {name}"
        command, place = command.commands[name], f"{place} {name}"
    faults = (_option_fault(command, word, place) for word in rest if word.startswith("-"))
    return next((fault for fault in faults if fault), "")


def _option_fault(command: click.Command, word: str, place: str) -> str:
    known = {"-h", "--help"}
    for parameter in command.params:
        known.update(parameter.opts, parameter.secondary_opts)
    return "" if word in known else f"{place} has no option {word}"


def named(text: str) -> Iterator[list[str]]:
    """The words behind each "craftsfl" in `text` that begins a command line.

    Elsewhere it may be the subject of a sentence: "craftsfl reads it".
    """
    for match in _NAMED.finditer(text):
        words = match[1].split()
        if words[:2] in _LABELS:
            continue
        first = next((word for word in words if not word.startswith("-")), "")
        if first in root_command().commands or text[: match.start()].endswith(_MARKED):
            yield words


def texts_of(path: Path) -> Iterator[str]:
    """The texts of a module, f-strings as one text with a gap for what they insert."""
    tree = ast.parse(path.read_text())
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = node.values
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else " X " for p in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield "" if id(node) in inside else node.value


def test_the_parser_is_asked_about_what_is_there_and_what_is_not() -> None:
    assert fault_of(["site", "serve", "--only"]) == ""
    assert fault_of(["-q", "rounds", "start"]) == ""
    assert fault_of(["rounds", "roster", "sign", "--key"]) == ""
    assert fault_of(["site", "fly"]) == "craftsfl site has no command fly"
    assert fault_of(["rounds", "serve", "--port"]) == "craftsfl rounds serve has no option --port"
    assert list(named("Use craftsfl rounds start --after N, or craftsfl does nothing.")) == [
        ["rounds", "start", "--after"]
    ]


def test_every_command_that_a_program_names_is_there() -> None:
    faults, seen = [], 0
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for text in texts_of(path):
                for words in named(text):
                    seen += 1
                    if fault := fault_of(words):
                        faults.append(f"{path.relative_to(ROOT)}: {fault} ({' '.join(words)})")
    assert faults == []
    assert seen > 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_names_is_there(page: Path) -> None:
    found = [fault for words in named(page.read_text()) if (fault := fault_of(words))]
    assert found == []

"""How the tests are laid out: who imports whom, and how long a file may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("tests", "bench", "scripts", "examples")
LONGEST = 500  # lines


def imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Full names of all that a module of `package` imports: modules, and what is in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def of_pytest(name: str) -> bool:
    """Whether a full name of the tests leads through a module that pytest alone loads."""
    first, *rest = name.split(".")
    return first == "tests" and any(p.startswith("test_") or p == "conftest" for p in rest)


def test_what_several_test_modules_use_is_in_none_of_them() -> None:
    """It is in a module without `test_` of its own, in the folder of the room that it speaks of."""
    found = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            package = ".".join(path.relative_to(ROOT).parent.parts)
            text = path.read_text("utf-8")
            if "test_" in text or "conftest" in text:
                names = filter(of_pytest, imported(ast.parse(text), package))
                found += [f"{path.relative_to(ROOT)} imports {name}" for name in names]
    assert not found


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from tests.server.test_rounds import four", "tests.server.test_rounds.four"),
        ("from tests.server import test_rounds", "tests.server.test_rounds"),
        ("from .test_rounds import four", "tests.server.test_rounds.four"),
        ("from ..conftest import four", "tests.conftest.four"),
        ("import tests.server.test_rounds", "tests.server.test_rounds"),
    ],
)
def test_a_planted_import_is_seen(line: str, name: str) -> None:
    assert list(imported(ast.parse(line), "tests.server")) == [name]
    assert of_pytest(name)


def test_no_file_of_the_tests_is_longer_than_one_reads_at_once() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in (ROOT / "tests").rglob("*.py")
    }
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST} == {}

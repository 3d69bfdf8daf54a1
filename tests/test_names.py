"""One name for one thing: no public top-level name stands in two modules of the project."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("privacy", "model", "strategies", "client", "server", "craftsfl", "bench")
HEADING = "## Names that stand in several modules"
MOST_EXCEPTIONS = 15


def public_names(module: ast.Module) -> Iterator[str]:
    """What a module defines for others at its top level; what it imports is not its own."""
    for node in module.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names = [node.name]
            case ast.Assign():
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case _:
                continue
        yield from (name for name in names if not name.startswith("_"))


@cache
def defined() -> dict[str, list[str]]:
    """The modules that define each public name."""
    found: dict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.stem.endswith(("_pb2", "_pb2_grpc")):
                continue  # generated
            for name in set(public_names(ast.parse(path.read_text("utf-8")))):
                found[name].append(path.relative_to(ROOT).as_posix())
    return found


def exceptions() -> set[str]:
    """The names that the glossary lists, each with its reason."""
    glossary = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    section = glossary.partition(HEADING)[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_no_public_name_is_defined_twice() -> None:
    twice = {name: modules for name, modules in defined().items() if len(modules) > 1}
    unlisted = {name: modules for name, modules in twice.items() if name not in exceptions()}
    assert not unlisted, "\n".join(f"{name}: {', '.join(at)}" for name, at in unlisted.items())


def test_the_exceptions_are_few_and_needed() -> None:
    listed = exceptions()
    assert 0 < len(listed) <= MOST_EXCEPTIONS
    assert {name for name in listed if len(defined().get(name, ())) < 2} == set()


def test_a_planted_second_definition_is_seen() -> None:
    planted = ast.parse("Roster = 1\nclass Charge: ...\ndef total(): ...\n_own: int = 2\nLINE: int")
    assert list(public_names(planted)) == ["Roster", "Charge", "total", "LINE"]

"""Which modules of ours a program needs: read from its import statements, nothing is executed.

Imports inside functions count; those for type checkers alone do not. Our code imports by statement
only: an import by name at run time would not be found.
"""

# Why: docs/adr/0026-laboratory-apart.md

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path


def modules_of(package: str, folder: Path) -> dict[str, Path]:
    """Dotted name -> file of every module in a package's `folder`."""
    found = {}
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        names = parts[:-1] if parts[-1] == "__init__" else parts
        found[".".join((package, *names))] = file
    return found


def needed(start: Iterable[str], modules: Mapping[str, Path]) -> set[str]:
    """Those of `modules` that `start` import, directly or through others, with their packages.

    Raises OSError where a file cannot be read.
    """
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name in found or name not in modules:
            continue
        found.add(name)
        waiting.append(name.rpartition(".")[0])  # importing a module runs its packages first
        waiting += _imports(name, modules[name])
    return found


def _imports(name: str, file: Path) -> Iterator[str]:
    """Every name that may be a module: `from a import b` is a.b only where b is one."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in _statements(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)

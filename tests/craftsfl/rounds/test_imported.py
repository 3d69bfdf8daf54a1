"""Which modules a program needs, by its import statements."""

from __future__ import annotations

from pathlib import Path

import pytest

from craftsfl.rounds.imported import modules_of, needed

FILES = {
    "__init__.py": "",
    "start.py": "import app.plain, json\nfrom app.deep import inner\n",
    "plain.py": "def f():\n    from app import lazy\n",
    "lazy.py": "from . import sibling\n",
    "sibling.py": "",
    "deep/__init__.py": "from .name import VALUE\n",
    "deep/inner.py": "import typing\nif typing.TYPE_CHECKING:\n    import app.hint\n",
    "deep/name.py": "VALUE = 1\n",
    "hint.py": "",
    "unused.py": "import app.start\n",
}


@pytest.fixture
def modules(tmp_path: Path) -> dict[str, Path]:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return modules_of("app", tmp_path)


def test_what_is_imported_is_needed_and_nothing_else(modules: dict[str, Path]) -> None:
    assert len(modules) == len(FILES)
    assert set(modules) - needed(["app.start"], modules) == {"app.hint", "app.unused"}


def test_nothing_is_needed_of_what_is_elsewhere(modules: dict[str, Path]) -> None:
    assert needed(["json", "app.sibling"], modules) == {"app", "app.sibling"}

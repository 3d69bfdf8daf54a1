"""A folder of Python files that no process of ours may ever run, and which of them were run."""

from __future__ import annotations

from pathlib import Path

NAMES = ("client", "server", "model", "privacy", "strategies", "craftsfl", "flwr", "torch", "numpy")
_TRAP = "import pathlib\npathlib.Path(__file__).with_suffix('.sprung').touch()\n"


def set_traps(folder: Path) -> Path:
    """Make `folder`, with a file for each of `NAMES` that leaves a mark when it is imported."""
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(_TRAP)
    return folder


def sprung(folder: Path) -> list[str]:
    """The names of those that were imported."""
    return sorted(path.stem for path in folder.glob("*.sprung"))

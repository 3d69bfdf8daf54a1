"""Another package of a name of ours, where Python finds it first, is named before it is run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from privacy.error_ids import ErrorId

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["client", "server", "model", "privacy", "strategies"])
@pytest.mark.parametrize("module", ["craftsfl", "client.agent"])
def test_another_package_of_a_name_of_ours_is_named(tmp_path: Path, module: str, name: str) -> None:
    """Not the agent's `client`: to find it, Python itself has to run the other one."""
    if (module, name) == ("client.agent", "client"):
        pytest.skip("Python says so")
    (tmp_path / f"{name}.py").write_text("raise SystemExit('sprung')")
    done = subprocess.run(
        [sys.executable, "-m", module, "--site", "x.toml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"another `{name}` than craftsfl's: {tmp_path / name}.py" in done.stderr
    assert "Next: " in done.stderr
    assert f"Id: {ErrorId.PACKAGE_HIDDEN} " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_of_such_a_name_is_noticed_where_it_hides_ours(tmp_path: Path) -> None:
    """A folder without __init__.py does where ours is found by a finder that is asked last."""
    (tmp_path / "model").mkdir()
    code = f"""
import runpy, sys
sys.path.append({str(tmp_path)!r})
print(runpy.run_path({str(ROOT / "privacy" / "shadows.py")!r})["explain_shadow"]())
"""
    argv = [sys.executable, "-I", "-S", "-c", code]  # without the folder where ours is installed
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert f"another `model` than craftsfl's: {tmp_path / 'model'}." in done.stdout, done.stderr


def test_the_coordinators_app_looks_as_well(tmp_path: Path) -> None:
    """In Flower's process, which has the bundle's folder first; here one before it."""
    (tmp_path / "model.py").write_text("raise SystemExit('sprung')")
    done = subprocess.run(
        [sys.executable, "-P", "-c", "import server.app"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ImportError: Error: Python finds another `model`" in done.stderr

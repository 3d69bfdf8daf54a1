"""`make setup` tells how far it is, whatever pip prints."""

from __future__ import annotations

import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "install.py"))
Pip, run_pip, ElapsedLines = SCRIPT["Pip"], SCRIPT["run_pip"], SCRIPT["ElapsedLines"]
compile_packages = SCRIPT["compile_packages"]


def test_large_files_and_the_last_step_are_told_at_once(tmp_path: Path) -> None:
    watched = Pip(tmp_path)
    assert watched.read("Collecting torch==2.13.0 (from craftsfl==0.1.0)\n") is None
    assert watched.now() == "1 package found, the last one torch"
    assert watched.read("Processing /files/rich-14.3.4-py3-none-any.whl (from craftsfl)\n") is None
    assert watched.now() == "2 packages found, the last one rich"
    wheel = "torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl"
    assert watched.read(f"  Downloading {wheel} (821.3 MB)\n") == "getting torch (821 MB)"
    assert watched.read("  Using cached rich-14.3.4-py3-none-any.whl (243 kB)\n") is None
    (tmp_path / "pip-23.2.1.dist-info").mkdir()
    assert watched.read("Installing collected packages: a, b, c\n") == "unpacking 3 packages"
    (tmp_path / "a-1.dist-info").mkdir()
    assert watched.now() == "1 of 3 packages unpacked"


def fake_python(folder: Path, code: str) -> Path:
    """A Python that runs `code` instead of pip."""
    (folder / "bin").mkdir()
    (folder / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f"#!{sys.executable}\n{code}\n")
    python.chmod(0o755)
    return python


def test_it_is_never_silent_for_long(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither while pip says nothing nor while it says much that is not shown."""
    code = """
import time
for number in range(20):
    print(f"Collecting package-{number}", flush=True)
    time.sleep(0.1)
time.sleep(2)
"""
    clock = ElapsedLines()
    clock.say.__globals__["QUIET_SECONDS"] = 0.9
    began = time.monotonic()
    run_pip(fake_python(tmp_path, code), ".", clock)
    assert len(capsys.readouterr().out.splitlines()) >= int(time.monotonic() - began) - 1 >= 2


def test_what_pip_says_of_a_failure_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import sys; print('ERROR: no matching distribution'); sys.exit(7)"
    with pytest.raises(SystemExit, match="7"):
        run_pip(fake_python(tmp_path, code), ".", ElapsedLines())
    assert "no matching distribution" in capsys.readouterr().err


def test_what_is_imported_often_is_compiled_whatever_else_lies_there(tmp_path: Path) -> None:
    python = fake_python(tmp_path, "")
    python.unlink()
    python.symlink_to(sys.executable)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    often = packages / "often"
    seldom = [often / "tests", often / "testing", packages / "torch" / "_inductor" / "codegen"]
    for folder in (often, *seldom):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "module.py").write_text("ANSWER = 42\n")
    (often / "template.py").write_text("class {{ name }}:\n")
    compile_packages(python)
    compiled = [path.name.split(".")[0] for path in packages.rglob("*.pyc")]
    assert compiled == ["module"]


def test_a_makefile_without_anything_to_do_does_nothing(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    for stamp in (".base", ".installed"):
        (tmp_path / stamp).touch()
    done = subprocess.run(
        ["make", "setup", f"VENV={tmp_path}"], cwd=root, capture_output=True, text=True, check=True
    )
    assert "install.py" not in done.stdout

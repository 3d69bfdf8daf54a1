"""The single file: it verifies where nothing is installed, and holds no coordinator or agent."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from craftsfl.audit.zipapp import write_zipapp

# Nothing of these is in the file; should they be on a machine, the program does not want them.
RUN = """
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"client", "server", "torch", "flwr", "sqlalchemy", "mlflow"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Block())
file, *sys.argv[1:] = sys.argv[1:]
runpy.run_path(file, run_name="__main__")
"""


@pytest.mark.slow
def test_the_single_file_verifies_without_anything_installed(tmp_path: Path) -> None:
    out = tmp_path / "audit.pyz"
    assert write_zipapp(out) == out.stat().st_size
    with zipfile.ZipFile(out) as archive:
        rooms = {name.split("/")[0] for name in archive.namelist()}
    assert not rooms & {"client", "server", "torch", "flwr", "mlflow", "sqlalchemy"}
    # -I and -S: no folder of ours, no site-packages.
    ran = [sys.executable, "-I", "-S", "-c", RUN, str(out)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for typed, code, says in (
        (["verify", "sample"], 0, "VERIFIED: everything in the bundle holds."),
        (["verify", "sample", "--study", "0" * 64], 1, "other-consortium"),
    ):
        done = subprocess.run(
            [*ran, *typed],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=tmp_path,
        )
        assert done.returncode == code, done.stderr
        assert says in done.stdout

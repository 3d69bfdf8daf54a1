"""The other version of Flower that we allow: the contract, and a message there and back, under it.

CRAFTSFL_OTHER_FLOWER names a Python with that version of flwr and everything else that the tests
need, for instance a virtual environment of its own:

    python -m venv other && other/bin/pip install -c constraints.txt -e ".[dev]" && \\
        other/bin/pip install flwr==1.42.0
"""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

OTHER = os.environ.get("CRAFTSFL_OTHER_FLOWER", "")
ROOT = Path(__file__).parents[2]
TESTS = (
    "tests/client/gateway/test_flower_contract.py",
    "tests/craftsfl/processes/test_direct.py",
    "tests/craftsfl/processes/test_plain_state.py",
    "tests/integration/test_gateway.py",
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not OTHER, reason="CRAFTSFL_OTHER_FLOWER names no Python with another flwr"),
]


def test_the_gateway_under_another_version_of_flower() -> None:
    ask = "from importlib.metadata import version; print(version('flwr'))"
    found = subprocess.run([OTHER, "-c", ask], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() != version("flwr"), "it is the same version"
    environment = {**os.environ, "CRAFTSFL_OTHER_FLOWER": ""}
    argv = [OTHER, "-m", "pytest", *TESTS]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, f"flwr {found.stdout}\n{done.stdout[-5000:]}"

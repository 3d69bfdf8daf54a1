"""What the package promises about its dependencies."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from craftsfl.extras import EXTRA_OF

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ]", requirement)[0].lower() for requirement in requirements}


EVERY = [
    each
    for extra in PROJECT["optional-dependencies"].values()
    for each in extra
    if not each.startswith("craftsfl[")
]


def test_torchvision_is_absent() -> None:
    """Its CUDA build together with a CPU torch breaks every diffusers import."""
    for package in ("torchvision", "torch_fidelity", "timm"):
        assert importlib.util.find_spec(package) is None, package


def test_an_auditor_needs_neither_torch_nor_flower() -> None:
    base = names(PROJECT["dependencies"])
    assert base.isdisjoint({"torch", "flwr", "diffusers", "opacus", "mlflow", "grpcio"})
    assert names(PROJECT["optional-dependencies"]["site"]) >= {"torch", "flwr", "opacus"}


def test_the_program_is_the_module() -> None:
    """Both look first whose packages Python finds."""
    assert PROJECT["scripts"] == {"craftsfl": "craftsfl.__main__:main"}


# Packages whose modules have other names.
MODULES = {
    "grpcio": "grpc",
    "grpcio-health-checking": "grpc_health",
    "openslide-bin": "openslide_bin",
    "openslide-python": "openslide",
    "pillow": "PIL",
    "protobuf": "google",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}


# Parts of another package's own interface: where that changes, so do these.
BROUGHT_BY = {
    "huggingface_hub": "diffusers",  # and transformers: how both load, and what they raise
    "tokenizers": "transformers",
    "pydantic_core": "pydantic",
    "httpcore": "httpx",
    # The SuperLink is Flower's app, which `rounds serve` starts in parts.
    **dict.fromkeys(("alembic", "fastapi", "starlette", "uvicorn"), "flwr"),
    "packaging": "flwr",
}


def modules_of(*extras: str) -> set[str]:
    """What is installed with these extras because craftsfl names it, by import name."""
    named = [PROJECT["optional-dependencies"][extra] for extra in extras]
    found = names([*PROJECT["dependencies"], *(each for all in named for each in all)])
    return {MODULES.get(name, name.replace("-", "_")) for name in found}


IMPORT = re.compile(r"^\s*(?:import|from(?=\s+\w[\w.]*\s+import\b))\s+(\w+)", re.MULTILINE)


def imported(folder: str, without: str = "-") -> set[str]:
    """Which packages of others the sources in `folder` import, by import name."""
    own = {"bench", "client", "craftsfl", "model", "privacy", "scripts", "server", "strategies"}
    own |= {"tests", "hostile"}  # the latter: in a bundle that a test writes
    paths = [path for path in (ROOT / folder).rglob("*.py") if without not in path.as_posix()]
    found = {name for path in paths for name in IMPORT.findall(path.read_text())}
    return found - own - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (["privacy", "strategies", "model"], ["site"]),
        (["client"], ["site", "slides"]),
        (["server"], ["site", "operator"]),
        (["model/lab"], ["site", "model"]),
        (["craftsfl"], ["site", "operator", "model"]),
        (["tests", "bench", "examples"], ["site", "operator", "model", "slides", "dev"]),
    ],
    ids=["shared", "client", "server", "laboratory", "craftsfl", "tests"],
)
def test_what_a_side_imports_its_extra_names(folders: list[str], extras: list[str]) -> None:
    """Another package may bring it along today, and leave it out tomorrow."""
    without = "/lab/" if "model" in folders else "-"
    packages = set[str]().union(*(imported(folder, without) for folder in folders))
    named = modules_of(*extras)
    assert {BROUGHT_BY.get(package, package) for package in packages} - named == set()


@pytest.mark.parametrize("name", sorted(names([*PROJECT["dependencies"], *EVERY])))
def test_a_decision_says_what_a_dependency_is_for(name: str) -> None:
    text = (ROOT / "docs/adr/0003-dependencies.md").read_text().lower()
    assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)


def test_every_module_of_an_extra_is_known_to_the_command_line() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = {
        MODULES.get(name, name): extra
        for extra in ("site", "operator", "model", "slides")
        for name in names(extras[extra]) - {"craftsfl"}
    }
    assert dict(EXTRA_OF) == wanted


@pytest.mark.parametrize(
    "module",
    ["privacy.accounting", "privacy.ledger", "privacy.study.manifest", "privacy.wire.envelope"],
)
def test_the_auditors_modules_import_no_heavy_package(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "heavy = {'torch', 'flwr', 'diffusers', 'opacus', 'mlflow', 'grpc', 'transformers'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_direct_dependency_is_pinned() -> None:
    pinned = names((ROOT / "constraints.txt").read_text().split())
    extras = PROJECT["optional-dependencies"]
    direct = names([*PROJECT["dependencies"], *(each for all in extras.values() for each in all)])
    unpinned = {name.replace("_", "-") for name in direct - {"craftsfl"}} - {
        name.replace("_", "-") for name in pinned
    }
    assert not unpinned


def test_torch_is_pinned_without_a_build() -> None:
    """A build's suffix would keep a site with a GPU from using its own."""
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().split()

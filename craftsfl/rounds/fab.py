"""The app bundle (FAB) that Flower hands to the ServerApp's and every ClientApp's process.

The bundle's folder comes first on `sys.path`, where a package hides the installed one of the same
name, even if only part of it is there. So the bundle holds every module that the two apps import,
now or later: all of `server` and `strategies`, only the forwarder of `client`, and what these need
of `model` and `privacy`. It holds nothing else: no laboratory (`model.lab`), nothing that only a
site runs, no data, no weights, no settings, no secrets.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

from craftsfl.rounds.imported import modules_of, needed
from craftsfl.version import installed_version
from privacy.errors import DeploymentError

_NAME = "craftsfl"  # of the staged folder too: Flower accepts letters, digits and hyphens only
PUBLISHER = "craftsfl"
WHOLE = ("server", "strategies")
PARTLY = ("model", "privacy")  # what the others import of them
FORWARDER = "client.app"  # with the modules of `client` that it imports
_FORWARDERS = (FORWARDER, "client.forwarded", "client.forwarder", "client.packing")
BY_PATH = "privacy.shadows"  # what `server.app` runs as a file, before it imports anything

_PROJECT = """\
[project]
name = "{name}"
version = "{version}"
description = "Federated, private fine-tuning of adapters of a pathology image generator"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "{publisher}"
fab-include = {include}

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
settings = ""
run = 0
"""


def stage(destination: Path) -> Path:
    """Write what belongs in the bundle to a new folder in `destination`; returns that folder.

    The modules are taken from where this Python finds them. `flwr run FOLDER` builds and
    submits the bundle. Raises `DeploymentError` if a package or free space is missing.
    """
    folder = destination / _NAME
    try:
        folder.mkdir(parents=True)
        for name, file in _modules().items():
            _copy(file, folder.joinpath(*name.split(".")))
        (folder / "client" / "__init__.py").touch()
        (folder / "pyproject.toml").write_text(_project(), "utf-8")
    except OSError as error:
        raise DeploymentError(
            f"The app bundle cannot be staged in {destination}: {error.strerror}.",
            "Use an empty folder with a few MB of free space.",
        ) from None
    return folder


def build(folder: Path) -> bytes:
    """The bundle of a staged `folder`, as `flwr run` would build it. Raises `DeploymentError`."""
    from flwr.cli.build import build_fab_from_disk

    try:
        return build_fab_from_disk(folder)
    except ValueError as error:
        raise DeploymentError(
            f"Flower does not accept the app bundle: {error}", "Reinstall craftsfl."
        ) from None


def _project() -> str:
    include = [f"{package}/**/*.py" for package in (*WHOLE, *PARTLY, "client")]
    return _PROJECT.format(
        name=_NAME, publisher=PUBLISHER, version=installed_version(), include=json.dumps(include)
    )


def _location(package: str) -> Path:
    """The folder of an installed or imported top-level package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise DeploymentError(f"The package {package} is not installed.", "Reinstall craftsfl.")
    return Path(spec.origin).parent


def _modules() -> dict[str, Path]:
    """Dotted name -> file of each module in the bundle."""
    folder = _location("client")
    every = {name: folder / f"{name.partition('.')[2]}.py" for name in _FORWARDERS}
    for package in (*WHOLE, *PARTLY):
        every |= modules_of(package, _location(package))
    start = [name for name in every if name.partition(".")[0] in WHOLE]
    return {name: every[name] for name in sorted(needed([*start, FORWARDER, BY_PATH], every))}


def _copy(file: Path, target: Path) -> None:
    """Copy a module's file; `target` is its path without a suffix."""
    copy = target / file.name if file.name == "__init__.py" else target.with_suffix(".py")
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copy)

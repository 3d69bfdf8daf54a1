"""A consortium and its hospitals as people make them, with the commands that they type."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from craftsfl.cli import app
from tests.client.pictures import write_folder

NAMES = ("north", "harbour", "hillside")
PATIENTS = 12


def type_in(*words: object, answers: str = "") -> str:
    """What a command prints; raises what it raises."""
    done = CliRunner().invoke(app, [str(word) for word in words], input=answers)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def init_consortium(folder: Path, *options: object) -> Path:
    """`craftsfl rounds init` for three hospitals; returns consortium.toml."""
    sites = [word for name in NAMES for word in ("--site", f"{name}={PATIENTS}")]
    chosen = options or ("--steps", 6)
    type_in("rounds", "init", folder / "colon", *sites, *chosen)
    return folder / "colon" / "consortium.toml"


def init_hospitals(folder: Path, *, tiles: bool = False) -> list[Path]:
    """`craftsfl site init` for each; returns their cards."""
    for name in NAMES:
        if tiles:
            write_folder(folder / "tiles" / name, patients=PATIENTS, tiles=1)
        type_in("site", "init", folder / name, "--name", name, "--data", folder / "tiles" / name)
    return [folder / name / f"{name}.card" for name in NAMES]


def fingerprint_in(text: str) -> str:
    """The one that stands in a line of its own, as the operator reads it out."""
    found = re.findall(r"(?m)^\s+(\d{5}(?: \d{5}){5})\s*$", text)
    return str(found[-1])


def invite(folder: Path) -> str:
    """A consortium, three hospitals and their invitation; returns its fingerprint."""
    settings = init_consortium(folder)
    return fingerprint_in(type_in("rounds", "add", settings, *init_hospitals(folder, tiles=True)))

"""A hospital's files in a folder, as an administrator would lay them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from privacy.manifest import Study

from .pictures import write_folder
from .studies import make_study

POLICY = 'epsilon = 20.0\ndelta = 1e-5\nstudies = ["any"]\nsecure_aggregation = "off"\n'


def write_hospital(folder: Path, *, study: Study | None = None, name: str = "north") -> Path:
    """Write tiles of 10 patients, study, policy and site.toml, and return the last."""
    write_folder(folder / "tiles", patients=10)
    write_study(folder / "study.toml", study or make_study())
    (folder / "policy.toml").write_text(POLICY)
    site = folder / "site.toml"
    site.write_text(
        f'name = "{name}"\nstudy = "study.toml"\npolicy = "policy.toml"\n'
        f'[data]\nfolder = "tiles"\n'
        f'[agent]\nstate = "state"\nsocket = "a.sock"\ndevice = "cpu"\n'
    )
    return site


def write_study(path: Path, study: Study) -> None:
    """Write `study` as TOML."""
    values = study.model_dump(mode="json")
    plain = [(key, value) for key, value in values.items() if not _is_table(value)]
    lines = [f"{key} = {json.dumps(value)}" for key, value in plain]
    for key, value in values.items():
        tables = value if _is_table(value) and isinstance(value, list) else [value]
        header = f"[[{key}]]" if isinstance(value, list) else f"[{key}]"
        for table in tables if _is_table(value) else []:
            lines += [header, *(f"{name} = {json.dumps(item)}" for name, item in table.items())]
    path.write_text("\n".join(lines) + "\n")


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and isinstance(value[0], dict))

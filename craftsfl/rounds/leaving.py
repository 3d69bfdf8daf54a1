"""Who leaves a consortium: named by the operator, and by no study's silence."""

# Why: docs/adr/0066-who-leaves-and-what-is-renewed.md

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from privacy.errors import ConfigError
from privacy.secagg.chain import read_rosters
from privacy.study.manifest import Study
from server.settings import ConsortiumSettings


def check_leavers(
    settings: ConsortiumSettings, settings_file: Path, study: Study, without: Sequence[str]
) -> None:
    """Raise `ConfigError` unless `without` is exactly who is in the roster and not in the study."""
    path, file = settings.roster, shlex.quote(str(settings_file))
    chain = read_rosters(path) if path is not None and path.exists() else ()
    listed = [member.name for member in chain[-1].roster.members] if chain else []
    for name in without:
        if name not in listed:
            raise ConfigError(
                f"--without {name}: the roster does not list it.",
                f"It lists {', '.join(listed) or 'nobody yet'}.",
            )
        if study.site(name) is not None:
            raise ConfigError(
                f"--without {name}: the study {study.name} lists it.",
                f"Plan the next study without it: craftsfl rounds plan {_others(study, name)} "
                f"--write next.toml, then craftsfl rounds add {file} --study next.toml "
                f"--without {name}. Fewer than three hospitals have no study: find another one.",
            )
    silent = [name for name in listed if study.site(name) is None and name not in without]
    if silent:
        options = " ".join(f"--without {name}" for name in silent)
        raise ConfigError(
            f"The study {study.name} does not list {', '.join(silent)}, and the roster does.",
            f"If it leaves the consortium: craftsfl rounds add {file} --study FILE {options}. If "
            "not, plan the study with it.",
        )


def put_card_away(cards: Path, name: str) -> str:
    """Keep a leaver's card where nobody admits its gateway; what was done, in words."""
    folder = cards / "left"
    folder.mkdir(exist_ok=True)
    for path in (cards / f"{name}.card", cards / f"{name}.pub"):
        if path.exists():
            path.replace(folder / path.name)
    return (
        f"{name} has left: its card is in {folder}. No later study reaches it, its key signs "
        "nothing more, and what its ledger says stays there."
    )


def _others(study: Study, name: str) -> str:
    return " ".join(
        f"--site {site.name}={site.declared_patients}" for site in study.sites if site.name != name
    )

"""`craftsfl rounds init`: everything of a consortium that one desk can make by itself.

Settings, an authority with a certificate for the right names, the secret, the coordinator's key,
and the study from the planner. What only the hospitals have, their keys, `rounds add` brings in.
Nothing is ever overwritten: a second `init` in the same folder makes nothing.
"""

# Why: docs/adr/0057-first-hour.md

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from craftsfl.planning.study_file import StudyNames, planned_study_text
from craftsfl.planning.words import late_words, mending_words, verdict_words
from craftsfl.processes.flower.certificates import check_certificate
from craftsfl.processes.flower.credentials import (
    ServerCredentials,
    make_consortium_authority,
    make_secret,
)
from craftsfl.rounds.planning import PlanOptions, base_folder, plan_of
from model.cache import install_base
from privacy.config import check
from privacy.errors import ConfigError
from privacy.files import write_public
from privacy.home import from_home
from privacy.study.manifest import Study, load_study
from privacy.visible import marked
from server.own_key import make_coordinator_key
from server.settings import InvitationSettings

SETTINGS: Final = "consortium.toml"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1"})
_MADE: Final = (
    SETTINGS,
    "study.toml",
    "coordinator.key",
    "superexec.secret",
    "roster.cfl",
    "tls/ca.key",
    "tls/server.key",
)
_LABEL: Final = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST: Final = rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*"


@dataclass(frozen=True)
class Founding:
    """What was typed. `study`: a study file of the operator's own, in place of `plan`."""

    folder: Path
    consortium: str
    name: str  # of the study
    address: str
    plan: PlanOptions
    port: int | None = None  # where the SuperLink listens, if that is not the address's
    study: Path | None = None
    credentials: ServerCredentials | None = None  # an existing certificate's


def found_consortium(asked: Founding) -> Iterator[str]:
    """Make the consortium's folder; what was made and what comes next, line by line.

    Everything that can be wrong is found before the first file is written. Raises `CraftsflError`.
    """
    host, port = _address(asked.address)
    folder = from_home(asked.folder).absolute()
    _check_free(folder)
    given = {
        "consortium": asked.consortium,
        "superlink": asked.address,
        "cards": "cards",
        "file": "invitation.cfl",
    }
    hint = "Give --consortium a name of small letters, digits and hyphens."
    invitation = check(given, InvitationSettings, where="rounds init", hint=hint)
    listening = "127.0.0.1" if host in _LOOPBACK else "0.0.0.0"
    if asked.credentials is not None:
        now = datetime.datetime.now(datetime.UTC)
        check_certificate(asked.credentials, ["127.0.0.1", host], now)
    draft = _draft(asked)
    _make_folder(folder)
    key = make_coordinator_key(folder / "coordinator.key")
    study = _write_study(folder / "study.toml", draft.text.replace(_KEY, key.hex()))
    make_secret(folder / "superexec.secret")
    credentials = asked.credentials or make_consortium_authority(
        folder / "tls", asked.consortium, [host]
    )
    text = _settings_text(invitation, credentials, folder, (listening, asked.port or port))
    write_public(folder / SETTINGS, text.encode("utf-8"))  # last: with it, the folder is whole
    yield from draft.said
    yield from _next_steps(asked, folder, study, made_authority=asked.credentials is None)


_KEY: Final = "f" * 64  # in place of the coordinator's key, until there is one


@dataclass(frozen=True)
class _StudyDraft:
    text: str
    said: tuple[str, ...] = ()


def _draft(asked: Founding) -> _StudyDraft:
    if asked.study is not None:
        return _StudyDraft(_own_study(asked.study))
    plan = plan_of(asked.plan)
    digest = install_base(base_folder(asked.plan.base))  # where the ServerApp looks for it
    names = StudyNames(asked.name, digest, asked.plan.base, coordinator_key=_KEY)
    text = planned_study_text(plan, names)
    said = verdict_words(plan), mending_words(plan), late_words(plan)
    hint = "Give --name a name of small letters, digits and hyphens."
    check(tomllib.loads(text), Study, where="rounds init", hint=hint)
    return _StudyDraft(text, tuple(filter(None, said)))


def _own_study(path: Path) -> str:
    """The text of an existing study file, whose roster and key are filled in."""
    load_study(path)
    text = path.read_text("utf-8")
    return re.sub(r'(?m)^(coordinator_key\s*=\s*)"[0-9a-f]{64}"', rf'\1"{_KEY}"', text)


def _write_study(path: Path, text: str) -> Study:
    write_public(path, text.encode("utf-8"))
    return load_study(path)


def _address(address: str) -> tuple[str, int]:
    """Host and port, as hospitals reach the consortium."""
    host, _, port = address.rpartition(":")
    if not re.fullmatch(_HOST, host) or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ConfigError(
            f"--address {marked(address)} is not HOST:PORT.",
            "Give the name or IPv4 address by which the hospitals reach this machine, for "
            "instance consortium.example.org:9092: letters, digits, dots and hyphens, nothing "
            "before it, a port up to 65535. For IPv6, give a DNS name.",
        )
    return host, int(port)


def check_host(name: str) -> None:
    """Raise `ConfigError` unless `name` is a DNS name or an address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        if not re.fullmatch(_HOST, name):
            raise ConfigError(
                f"{marked(name)} is neither a DNS name nor an address.",
                "Give the name by which the hospitals reach this machine, without a port, for "
                "instance consortium.example.org.",
            ) from None


def _check_free(folder: Path) -> None:
    there = next((name for name in _MADE if (folder / name).exists()), None)
    if there is not None:
        raise ConfigError(
            f"{folder / there} exists already: nothing was made or changed.",
            "A consortium has one folder and keeps its keys. For its next study: craftsfl rounds "
            "plan --write next.toml, then craftsfl rounds add consortium.toml --study next.toml. "
            "For another consortium, give another folder.",
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "cards").mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be made: {error.strerror}.", "Check the path."
        ) from None


def _settings_text(
    invitation: InvitationSettings, files: ServerCredentials, folder: Path, listens: tuple[str, int]
) -> str:
    values = {
        "consortium": json.dumps(invitation.consortium),
        "superlink": json.dumps(invitation.superlink),
        "host": json.dumps(listens[0]),
        "port": listens[1],
        "authority": json.dumps(_named(files.authority, folder)),
        "certificate": json.dumps(_named(files.certificate, folder)),
        "key": json.dumps(_named(files.key, folder)),
    }
    return _TEMPLATE.format(**values)


def _named(path: Path, folder: Path) -> str:
    """A file of the consortium's own folder relative to it, any other by its whole path."""
    whole = from_home(path).absolute()
    return str(whole.relative_to(folder) if whole.is_relative_to(folder) else whole)


def _next_steps(
    asked: Founding, folder: Path, study: Study, *, made_authority: bool
) -> Iterator[str]:
    names = ", ".join(site.name for site in study.sites)
    yield f"Made {folder}: settings, certificate for {asked.address}, keys, study {study.name}."
    if made_authority:
        yield (
            f"Move {folder / 'tls' / 'ca.key'} to a disk that is not in this machine: it signs "
            "the next certificate, in a year."
        )
    if asked.address.rpartition(":")[0] in _LOOPBACK:
        yield (
            "Only this machine reaches that address. For hospitals elsewhere, begin again with "
            "--address HOST:PORT."
        )
    yield (
        f"Next: each hospital ({names}) runs craftsfl site init and sends you its card; then "
        f"craftsfl rounds add {shlex.quote(str(asked.folder / SETTINGS))} NAME.card NAME.card ..."
    )


_TEMPLATE: Final = """\
# The operator's file, made by `craftsfl rounds init`. Relative paths are relative to this file.
study = "study.toml"
state = "state"                  # rounds' database, adapters, samples, MLflow
roster = "roster.cfl"            # craftsfl rounds add makes it, and the hospitals sign it
coordinator_key = "coordinator.key"

[superlink]
host = {host}
port = {port}
folder = "superlink"             # its database and Flower's home
authority = {authority}
certificate = {certificate}
key = {key}
secret = "superexec.secret"

[invitation]                     # what the hospitals are told: craftsfl rounds add
consortium = {consortium}
superlink = {superlink}  # as they reach this machine
cards = "cards"
file = "invitation.cfl"
"""

"""`craftsfl site doctor`: what is alive, what may be deleted, whom to ask; facts for support.

The facts for support are an allow-list: each is a number, a version, or a word of a closed set. No
path, name, digest of a patient's file, caption or text of a log is among them.
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from rich.table import Table

from client.agent.own_ledger import read_own_ledger
from client.agent.requests import RequestsRead
from client.agent.state import StateFolder, lock_is_held
from client.patients.lines import KEY
from client.settings import SiteSettings, load_site
from craftsfl.site.check.catalogue import level_of
from craftsfl.site.check.command import airlock_for_root, check_site
from craftsfl.site.check.finding import CheckId, Finding, Level
from craftsfl.site.check.report import finding_lines
from craftsfl.site.desk.standing import (
    SiteStanding,
    at_roots_desk,
    requests_of,
    standing_of,
    tail_of,
)
from craftsfl.site.desk.status import agent_words
from craftsfl.terminal import output
from craftsfl.version import installed_version
from privacy.error_catalogue import catalogue
from privacy.errors import CraftsflError, DeploymentError
from privacy.files import write_private_once

_PACKAGES: Final = ("flwr", "grpcio", "numpy", "opacus", "torch", "diffusers", "transformers")
_OPERATOR: Final = frozenset(
    {CheckId.ROSTER, CheckId.COORDINATOR, CheckId.CERTIFICATE, CheckId.STUDY_UNPAID,
     CheckId.TOO_SLOW, CheckId.COHORT_SIZE}
)  # fmt: skip
_OWN_IT: Final = frozenset(
    {CheckId.DEVICE, CheckId.CPU_ONLY, CheckId.DISK, CheckId.STATE_FOLDER, CheckId.PRIVATE_FILES,
     CheckId.SOCKET, CheckId.AIRLOCK, CheckId.AGENT_NETWORK, CheckId.VERSIONS, CheckId.CLOCK,
     CheckId.BASE, CheckId.SETTINGS}
)  # fmt: skip
SupportFacts = dict[str, object]


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file or folder of the site: what it is, and whether it may be deleted."""

    path: Path
    what: str
    deletable: bool


def show_doctor(site_toml: Path) -> SupportFacts:
    """Print how things are, and return the facts for support, which are printed too."""
    airlock = airlock_for_root(site_toml)
    site_toml, heard = at_roots_desk(site_toml)
    settings = load_site(site_toml)
    findings = check_site(site_toml, quick=True, airlock=airlock).findings
    console = output()
    standing = _standing(site_toml, heard)
    console.print("Alive", style="bold")
    for line in _alive(settings, standing):
        console.print(f"  {line}", highlight=False, markup=False)
    console.print("Files", style="bold")
    console.print(_files_table(settings))
    console.print("Findings, and whom to ask", style="bold")
    for finding in findings:
        for text in finding_lines([finding]):
            console.print(text)
        console.print(f"      Ask: {whom(finding.id)}", highlight=False)
    if not findings:
        console.print("  none; craftsfl site check site.toml looks at data and model too")
    facts = facts_for_support(settings, standing, findings)
    console.print("For support, and nothing else", style="bold")
    console.print_json(json.dumps(facts), highlight=False)
    return facts


def _standing(site_toml: Path, heard: str | None) -> SiteStanding | None:
    try:
        return standing_of(site_toml, heard=heard)
    except CraftsflError:
        return None  # `check_site` says why


def _alive(settings: SiteSettings, standing: SiteStanding | None) -> Iterator[str]:
    state = StateFolder(settings.agent.state)
    if standing is not None:
        yield agent_words(standing)
        yield f"Gateway: {standing.connection}"
    trainer = "runs" if lock_is_held(state.trainer_lock) else "does not run"
    yield f"The trainer {trainer}."
    yield "The socket is there." if settings.socket_path().exists() else "There is no socket."


def whom(id: CheckId) -> str:
    """Who can do something about it."""
    if id in _OPERATOR:
        return "the operator of the study"
    if id in _OWN_IT:
        return "whoever runs this machine"
    return "whoever answers for the study at this hospital"


def kept_files(settings: SiteSettings) -> tuple[KeptFile, ...]:
    """What a site keeps, the precious first."""
    state, own = StateFolder(settings.agent.state), settings.identity
    keys = []
    if own is not None:
        marker = own.key.with_name(f"{own.key.name}.ledger")
        keys = [
            KeptFile(own.key, "who this site is", False),
            KeptFile(marker, "which ledger this identity has", False),
            KeptFile(own.roster, "the signed rosters", False),
        ]
    home = [] if settings.gateway is None else [settings.gateway]
    return (
        *keys,
        KeptFile(state.ledger, "what the patients' budget was charged with", False),
        KeptFile(state.ledger_key, "what signs the ledger and the log of requests", False),
        KeptFile(state.patients, "the register of patients, who withdrew among them", False),
        KeptFile(state.path / KEY, "what hides patients' names in the register", False),
        KeptFile(state.witness, "the others' ledgers, as last seen", False),
        KeptFile(state.log, "what this site has cosigned of the consortium's log", False),
        KeptFile(state.requests, "the log of requests", False),
        KeptFile(state.wish, "whether this site has paused or left", False),
        *(KeptFile(each.key, "the gateway's key", False) for each in home),
        KeptFile(state.cache, "encoded tiles; the next start encodes again", True),
        KeptFile(state.chain, "the study's adapter; the coordinator sends it again", True),
        KeptFile(state.known_layout, "the adapter's layout", True),
        KeptFile(state.proof, "what the device was found to be", True),
        KeptFile(state.looks, "what site check saw of pictures", True),
        KeptFile(state.quarantine, "tiles that are not used; the next start lists again", True),
        KeptFile(state.path / "logs", "logs, with the agent stopped", True),
    )


def _files_table(settings: SiteSettings) -> Table:
    table = Table("file", "what it is", "size", "may be deleted")
    for kept in kept_files(settings):
        size = _size(kept.path)
        table.add_row(
            str(kept.path),
            kept.what,
            "-" if size is None else f"{size / 2**20:.1f} MB",
            "yes" if kept.deletable else "NEVER",
        )
    return table


def _size(path: Path) -> int | None:
    """Bytes of a file or of all files in a folder; None where it is not, or not readable."""
    try:
        if not path.is_dir():
            return path.stat().st_size
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    except OSError:
        return None


def facts_for_support(
    settings: SiteSettings, standing: SiteStanding | None, findings: tuple[Finding, ...]
) -> SupportFacts:
    """The allow-list, filled in."""
    state = StateFolder(settings.agent.state)
    requests = RequestsRead(()) if standing is None else _requests(settings, state)
    reasons = Counter(r.request.reason for r in requests.records if r.request.reason)
    return {
        "craftsfl": installed_version(),
        "python": platform.python_version(),
        "system": platform.system(),
        "kernel": platform.release(),
        "processor": platform.machine(),
        "cores": os.cpu_count() or 0,
        "gpu": Path("/dev/nvidia0").exists(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "agent": standing is not None and standing.alive,
        "trainer": lock_is_held(state.trainer_lock),
        "phase": "" if standing is None else standing.now.phase,
        "wish": "" if standing is None else str(standing.wish),
        "gateway": "" if settings.gateway is None else settings.gateway.kind,
        "two_users": settings.agent.socket_mode == "0660",
        "findings": sorted(str(finding.id) for finding in findings),
        "faults": sum(level_of(finding.id) is Level.FAULT for finding in findings),
        "requests": len(requests.records),
        "log_whole": not requests.fault,
        "refusals": dict(sorted(reasons.items())),
        "errors": error_ids_in(state.path / "logs" / "agent.log"),
    }


def _requests(settings: SiteSettings, state: StateFolder) -> RequestsRead:
    try:
        return requests_of(state, read_own_ledger(state, settings), [])
    except CraftsflError:
        return RequestsRead(())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def error_ids_in(log: Path) -> list[str]:
    """The known error ids at the end of a log, each once; nothing else of it."""
    try:
        lines = tail_of(log)
    except OSError:
        return []
    known = catalogue().keys()
    said = {line.removeprefix("Id: ").split(" ", 1)[0] for line in lines if line.startswith("Id: ")}
    return sorted(said & known)


def write_bundle(path: Path, facts: SupportFacts) -> None:
    """Write the facts to a new file, mode 0600; raises `DeploymentError`."""
    try:
        write_private_once(path, (json.dumps(facts, indent=2) + "\n").encode("utf-8"))
    except OSError as error:
        raise DeploymentError(
            f"{path} cannot be written: {error.strerror}.", "Name a new file with --bundle."
        ) from None

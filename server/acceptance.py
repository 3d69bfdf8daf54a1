"""The operator accepts another ledger of a site, whose id the site has read out over the phone."""

from __future__ import annotations

from pathlib import Path

from privacy.errors import ConfigError
from privacy.secagg.acceptance import accept_successor
from privacy.study.agreement import roster_in_force
from privacy.study.manifest import load_study
from server.clock import SystemClock
from server.run_name import RunName
from server.settings import load_consortium
from server.store import Store
from server.witness import StoredWitness


def accept_at_server(consortium_toml: Path, site: str, ledger: str) -> str:
    """Let the coordinator accept this other ledger of `site`; returns what was done, in words."""
    settings = load_consortium(consortium_toml)
    if settings.roster is None:
        raise ConfigError(
            "consortium.toml names no roster.", "Set `roster` to the signed file first."
        )
    study = load_study(settings.study)
    roster = roster_in_force(study, settings.roster)
    # A ledger's checkpoint belongs to no run, so any name will do.
    store = Store(settings.database_url(), RunName(study.digest(), 1), SystemClock())
    try:
        return accept_successor(StoredWitness(store), roster, site, ledger)
    finally:
        store.close()

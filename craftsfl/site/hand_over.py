"""`craftsfl site hand-over`: a site's ledger and its signed word on its budget, for an auditor."""

from __future__ import annotations

import time
from pathlib import Path

from client.agent.own_ledger import identity_of, read_own_ledger
from client.agent.state import StateFolder
from client.policy import SiteRules
from client.settings import load_policy, load_site
from craftsfl.new_file import write_new_file
from privacy.audit.handed import HandedOver
from privacy.errors import AuditError, ConfigError
from privacy.ledger import record_bytes
from privacy.study.manifest import load_study


def write_hand_over(site_toml: Path, out: Path) -> HandedOver:
    """Write the part of the site of `site_toml` to `out`; its agent may be running.

    Raises `ConfigError` for wrong settings and `LedgerError` for a ledger that is not sound.
    """
    settings = load_site(site_toml)
    rules = SiteRules(settings.name, load_study(settings.study), load_policy(settings.policy))
    own = identity_of(settings)
    if own is None:
        raise ConfigError(
            f"The site {settings.name} has no identity to sign with.",
            "Name key and roster in the [identity] table of site.toml.",
        )
    state = StateFolder(settings.agent.state)
    view = read_own_ledger(state, settings)
    if view is None:
        raise AuditError("There is no ledger yet.", "Hand it over once the agent has worked.")
    head = view.head()
    made = HandedOver.of(
        settings.name,
        rules.study,
        own.identity,
        rules.limits,
        (head, record_bytes(state.ledger, head), view.entries()),
        time.time(),
    )
    write_new_file(out, made.encode())
    return made

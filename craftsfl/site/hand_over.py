"""`craftsfl site hand-over`: a site's ledger and its signed word on its budget, for an auditor."""

from __future__ import annotations

import time
from pathlib import Path

from client.agent.own_ledger import identity_of, read_own_ledger
from client.agent.startup import load_rules
from client.agent.state import StateFolder
from craftsfl.new_file import write_new_file
from privacy.audit.handed import HandedOver
from privacy.errors import AuditError, ConfigError
from privacy.ledger import record_bytes


def write_hand_over(site_toml: Path, out: Path) -> HandedOver:
    """Write the part of the site of `site_toml` to `out`; its agent may be running.

    Raises `ConfigError` for wrong settings and `LedgerError` for a ledger that is not sound.
    """
    found = load_rules(site_toml)
    settings, rules = found.settings, found.rules
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

"""site.toml as commands are given it: what root types is done as the agent's user."""

# Why: docs/adr/0082-whose-file-is-whose.md

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def as_agents_user(settings: Path) -> Path:
    """Go on as the agent's user, if root has typed this and site.toml names one.

    Nothing in the state folder then becomes root's, which the agent could not read. Returns the
    path as it is reached from anywhere. Raises `ConfigError`.
    """
    import os
    from contextlib import suppress

    if os.geteuid() != 0:
        return settings
    from client.agent.own_ledger import read_passphrase_ahead
    from client.settings import load_site
    from craftsfl.processes.accounts import find_account
    from privacy.errors import ConfigError

    site = load_site(settings)
    user, own = site.agent.user, site.identity
    if user is None:
        return settings
    found = settings.absolute()
    with suppress(ConfigError):  # whoever needs it says so
        read_passphrase_ahead(None if own is None else own.passphrase_file)
    find_account(user).become()
    if not os.access(found, os.R_OK):
        raise ConfigError(
            f"Root's commands run as {user}, the agent's user, who cannot read {found}.",
            f"The hospital's folder has to be that user's: chown -R {user} {found.parent}, and "
            "every folder above has to let it in.",
        )
    return found


SiteFile = Annotated[
    Path, typer.Argument(help="The site's settings, site.toml.", callback=as_agents_user)
]
"""Of every command but `serve`, `systemd` and `check`, which need root's own eyes."""

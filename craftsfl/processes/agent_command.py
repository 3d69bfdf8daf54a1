"""The command line and environment of the site agent, and how a process becomes one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from client.agent.apart import ONE_USER
from client.settings import SiteSettings, load_site
from craftsfl.processes.accounts import SystemAccount, become
from craftsfl.processes.environment import MODELS, environment
from craftsfl.processes.supervisor import Command

_SYSTEMD = ("CREDENTIALS_DIRECTORY",)  # where it finds its passphrase, if systemd passes one


def serve_agent(settings_file: Path, *, one_user: bool = False) -> None:
    """Replace this process by the site agent; if root starts it, as the user in site.toml."""
    site = load_site(settings_file)
    become(site.agent.user)
    log = Path("/dev/null")  # not used: the agent inherits this process's output
    command = agent_command(settings_file, site, log, one_user=one_user)
    os.execve(command.argv[0], command.argv, dict(command.env))


def agent_command(
    settings_file: Path,
    site: SiteSettings,
    log: Path,
    *,
    one_user: bool = False,
    user: SystemAccount | None = None,
    threads: int | None = None,
) -> Command:
    """The site agent, without a Flower home. `user`: whom root starts it as.

    `threads`: the most that torch may use (None: one for each core).
    """
    argv = [sys.executable, "-P", "-m", "client.agent", "--site", str(settings_file.resolve())]
    if one_user:
        argv.append(ONE_USER)
    extra = dict(user.variables) if user else {}
    if threads is not None:
        extra["OMP_NUM_THREADS"] = str(threads)
    own = {
        name for name in MODELS if user is None or not name.startswith("XDG_")
    }  # those are root's folders
    env = environment(
        Path("/nonexistent"), extra, allowed={*own, *_SYSTEMD, *site.agent.environment}
    )
    return Command(f"{site.name} agent", tuple(argv), env, log, user.name if user else None)

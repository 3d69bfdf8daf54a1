"""The site agent's command line and environment, and becoming it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from client.agent.apart import ONE_USER
from client.settings import SiteSettings, load_site
from craftsfl.processes.accounts import SystemAccount, become
from craftsfl.processes.environment import MODELS, environment
from craftsfl.processes.supervisor import Command


def serve_agent(settings_file: Path, *, one_user: bool = False) -> None:
    """Turn this process into the site agent, as the user whom site.toml names if it is root's."""
    site = load_site(settings_file)
    become(site.agent.user)
    log = Path("/dev/null")  # it keeps this process's output
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
    """The site agent: no Flower home, no network; `user`: as whom root starts it.

    `threads` bounds torch's (None: all cores).
    """
    argv = [sys.executable, "-P", "-m", "client.agent", "--site", str(settings_file.resolve())]
    if one_user:
        argv.append(ONE_USER)
    extra = dict(user.variables) if user else {}
    if threads is not None:
        extra["OMP_NUM_THREADS"] = str(threads)
    own = {name for name in MODELS if user is None or not name.startswith("XDG_")}  # root's folders
    env = environment(Path("/nonexistent"), extra, allowed={*own, *site.agent.environment})
    return Command(f"{site.name} agent", tuple(argv), env, log, user.name if user else None)

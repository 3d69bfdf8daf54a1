"""`craftsfl site serve`: a hospital's agent and SuperNode under one supervisor, as two users."""

from __future__ import annotations

import logging
from pathlib import Path

from client.agent.apart import ONE_USER
from client.settings import SiteSettings, load_site
from craftsfl.processes.accounts import become
from craftsfl.processes.agent_command import agent_command
from craftsfl.processes.agent_watch import AgentState, AgentWatch
from craftsfl.processes.environment import keep_files_private
from craftsfl.processes.flower.commands import SuperNode
from craftsfl.processes.restarts import keep_running
from craftsfl.processes.supervisor import Supervisor, claim_port, ended_by_signals
from craftsfl.site.airlock import Users, check_supernode, two_users
from craftsfl.terminal import say
from privacy.errors import ConfigError


def serve_site(
    settings_file: Path, *, supernode_only: bool = False, one_user: bool = False
) -> None:
    """Run a hospital's agent and SuperNode (or only the SuperNode) until interrupted.

    They run as two users, which takes root. Raises `PolicyError` if the SuperNode's user could
    reach what belongs to the agent, unless `one_user` is set.
    """
    keep_files_private()
    site = load_site(settings_file)
    if site.supernode is None:
        raise ConfigError(
            f"{settings_file} has no [supernode] table.",
            "Add it, or run only the agent: craftsfl site serve FILE --only agent",
        )
    if one_user:
        say(
            f"{ONE_USER}: the coordinator's code can read the data and every key of this site.",
            logging.WARNING,
        )
    elif supernode_only:
        become(site.supernode.user)
        check_supernode(site)
    users = None if one_user or supernode_only else two_users(site)
    logs = site.supernode.flwr_home / "logs"
    commands = [_supernode(site, users).command(logs / "supernode.log")]
    if not supernode_only:
        log = site.agent.state / "logs" / "agent.log"
        agent = users.agent if users else None
        commands.insert(0, agent_command(settings_file, site, log, one_user=one_user, user=agent))
    states = _StateLines(site.name)
    watch = AgentWatch(site.socket_path())
    say(f"Serving {site.name}. Logs: {', '.join(str(c.log) for c in commands)}. Ctrl-C ends it.")
    with ended_by_signals(), Supervisor() as supervisor:
        try:
            keep_running(commands, supervisor, lambda: states.show(watch.state))
        finally:
            watch.close()


def _supernode(site: SiteSettings, users: Users | None) -> SuperNode:
    own = site.supernode
    if own is None:
        raise ConfigError("site.toml has no [supernode] table.", "Add it.")
    return SuperNode(
        name=site.name,
        superlink=own.superlink,
        authority=own.root_certificates,
        key=own.key,
        agent_socket=site.socket_path(),
        home=own.flwr_home,
        port=claim_port("127.0.0.1", None),
        variables=own.environment,
        account=users.supernode if users else None,
    )


class _StateLines:
    """Prints a line whenever a site's state changes in a way that people care about."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._last = AgentState()

    def show(self, state: AgentState) -> None:
        """Print what has changed since the last call."""
        last, self._last = self._last, state
        if state == last:
            return
        where = f"round {state.round}, " if state.round else ""
        share = f", {state.done} of {state.total} quarters" if state.total else ""
        say(f"{self._site}: {where}{state.phase or 'no agent'}{share}.")

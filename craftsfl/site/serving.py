"""`craftsfl site serve`: a hospital's agent and gateway under one supervisor, as two users."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from client.agent.apart import ONE_USER
from client.settings import SiteSettings, load_site
from craftsfl.processes.accounts import SystemAccount, become
from craftsfl.processes.agent_command import agent_command
from craftsfl.processes.agent_watch import AgentState, AgentWatch
from craftsfl.processes.desk_lines import AGENTS, DeskLines
from craftsfl.processes.environment import keep_files_private
from craftsfl.processes.gateway_command import gateway_commands, gateway_of, make_runtime_secret
from craftsfl.processes.restarts import keep_running
from craftsfl.processes.supervisor import Command, Supervisor, ended_by_signals
from craftsfl.site.airlock import Users, check_gateway, separation
from craftsfl.site.check.command import check_before_serving
from craftsfl.site.check.report import cure_of
from craftsfl.terminal import say
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError


def serve_site(settings_file: Path, *, gateway_only: bool = False, one_user: bool = False) -> None:
    """Run a hospital's agent and gateway (or only the gateway) until interrupted.

    They run as two users, which takes root, or as one, whose gateway then has to be shut in.
    Raises `PolicyError` if nothing would keep the gateway from what belongs to the agent, unless
    `one_user` is set. Once they run, nothing ends this but a signal and an agent that rejects its
    settings: whatever the network does is waited out.
    """
    keep_files_private()
    site = load_site(settings_file)
    if not site.study.exists():
        file = shlex.quote(str(settings_file))
        raise ConfigError(
            f"This hospital has joined no study yet: there is no {site.study}.",
            f"Send the operator its card, then: craftsfl site join {file} INVITATION",
            id=ErrorId.SETTINGS_MISSING,
        )
    own = gateway_of(site)
    users, shut_in = _separated(site, gateway_only=gateway_only, one_user=one_user)
    logs = own.home / "logs"
    if own.kind == "supernode":
        _make_secret_as(users.gateway if users else None, own.home)
    account = users.gateway if users else None
    commands = gateway_commands(site, logs, account, one_user=shut_in)
    desks = {"gateway": DeskLines(logs / "gateway.log")}
    if not gateway_only:
        agent = _agent(settings_file, site, users, one_user=one_user)
        desks["agent"] = DeskLines(agent.log, AGENTS)
        commands.insert(0, agent)
        _say_first(settings_file)
    watch = AgentWatch(site.socket_path())
    say(f"Serving {site.name}. Logs: {', '.join(str(c.log) for c in commands)}. Ctrl-C ends it.")
    _keep_serving(site.name, commands, watch, desks)


def _say_first(settings_file: Path) -> None:
    """Say what the quick part of `site check` finds, before the agent starts and decides itself."""
    for finding in check_before_serving(settings_file).findings:
        say(f"{finding.id}: {finding.words} {cure_of(finding)}", logging.WARNING)


def _separated(
    site: SiteSettings, *, gateway_only: bool, one_user: bool
) -> tuple[Users | None, bool]:
    """The two users, if root starts them, and whether one user's gateway has to be shut in."""
    if one_user:
        say(
            f"{ONE_USER}: whoever takes over the gateway can read the data and every key of this "
            "site.",
            logging.WARNING,
        )
        return None, False
    if gateway_only:
        become(gateway_of(site).user)
        found: Users | str | None = check_gateway(site)
    else:
        found = separation(site)
    if isinstance(found, str):
        say(found)
        return None, True
    say("Airlock: two users.")
    return found, False


def _keep_serving(
    name: str, commands: Sequence[Command], watch: AgentWatch, desks: Mapping[str, DeskLines]
) -> None:
    states = _StateLines(name)

    def tick() -> None:
        states.show(watch.state)
        for part, desk in desks.items():
            for line in desk.read():
                say(f"{name} {part}: {line}")

    with ended_by_signals(), Supervisor() as supervisor:
        try:
            keep_running(commands, supervisor, tick, lambda command: _is_agent(command, name))
        finally:
            watch.close()


def _is_agent(command: Command, site: str) -> bool:
    return command.name == f"{site} agent"


def _agent(
    settings_file: Path, site: SiteSettings, users: Users | None, *, one_user: bool
) -> Command:
    log = site.agent.state / "logs" / "agent.log"
    account = users.agent if users else None
    return agent_command(settings_file, site, log, one_user=one_user, user=account)


def _make_secret_as(account: SystemAccount | None, home: Path) -> None:
    """Make the secret of a SuperNode's Runtime API, as the user whose home that is."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if account is not None:
                account.become()
            make_runtime_secret(home)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(child, 0)[1] != 0:
        raise DeploymentError(
            f"No secret can be written into {home}.",
            "Check home in the [gateway] table of site.toml, and that its user may write there.",
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

"""`site serve` and `rounds serve`: long-running processes under one supervisor.

A process that dies is started again after a pause, the pause doubling while it keeps dying. One
that refuses its settings (exit status 1 or 2 before it ever served) ends the command with its
words: a restart would not help.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from client.agent.apart import ONE_USER
from client.settings import SiteSettings, load_site
from craftsfl.processes.accounts import become
from craftsfl.processes.agent_command import agent_command
from craftsfl.processes.agent_watch import AgentState, AgentWatch
from craftsfl.processes.environment import keep_files_private
from craftsfl.processes.flower.commands import SuperNode
from craftsfl.processes.supervisor import Command, Running, Supervisor, claim_port, ended_by_signals
from craftsfl.site.airlock import Users, check_supernode, two_users
from privacy.errors import ConfigError

# A SuperLink refuses a SuperNode that comes back within 60 s of being killed.
FIRST_PAUSE_SECONDS = {"supernode": 65.0}
DEFAULT_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 300.0
SETTLED_SECONDS = 60.0
REFUSED_SETTINGS = (1, 2)


@dataclass
class _Watched:
    running: Running
    since: float
    failures: int = 0
    restart_at: float | None = None


def keep_running(
    commands: Sequence[Command], supervisor: Supervisor, tick: Callable[[], None]
) -> None:
    """Run `commands` until interrupted, restarting what dies; `tick` is called twice a second."""
    watched = [_Watched(supervisor.start(command), time.monotonic()) for command in commands]
    while True:
        for item in watched:
            _revive(item, supervisor)
        tick()
        time.sleep(0.5)


def _revive(item: _Watched, supervisor: Supervisor) -> None:
    now = time.monotonic()
    if item.restart_at is not None:
        if now >= item.restart_at:
            item.running = supervisor.start(item.running.command)
            item.since, item.restart_at = now, None
        return
    code = item.running.exit_code()
    if code is None:
        return
    lived = now - item.since
    if code in REFUSED_SETTINGS and lived < SETTLED_SECONDS and item.failures == 0:
        supervisor.check()
    item.failures = 0 if lived > SETTLED_SECONDS else item.failures + 1
    first = FIRST_PAUSE_SECONDS.get(item.running.name.split()[-1], DEFAULT_PAUSE_SECONDS)
    pause = min(first * 2 ** max(0, item.failures - 1), LONGEST_PAUSE_SECONDS)
    supervisor.stop_one(item.running)
    item.restart_at = now + pause
    _say(f"{item.running.name} ended with status {code}; starting it again in {pause:.0f} s.")


def serve_site(
    settings_file: Path, *, supernode_only: bool = False, one_user: bool = False
) -> None:
    """Run a hospital's agent and SuperNode (or the SuperNode alone) until interrupted.

    As two users, which this process can only give them where it is root's. Raises `PolicyError`
    where the SuperNode's user could reach what is the agent's, unless `one_user` is asked for.
    """
    keep_files_private()
    site = load_site(settings_file)
    if site.supernode is None:
        raise ConfigError(
            f"{settings_file} has no [supernode] table.",
            "Add it, or run the agent alone: craftsfl site serve FILE --only agent",
        )
    if one_user:
        _say(f"{ONE_USER}: the coordinator's code can read the data and every key of this site.")
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
    console = _Console(site.name)
    watch = AgentWatch(site.socket_path())
    _say(f"Serving {site.name}. Logs: {', '.join(str(c.log) for c in commands)}. Ctrl-C ends it.")
    with ended_by_signals(), Supervisor() as supervisor:
        try:
            keep_running(commands, supervisor, lambda: console.show(watch.state))
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


def serve_consortium(settings_file: Path, *, only: str | None = None) -> None:
    """Run SuperLink and SuperExec (or one of them) until interrupted."""
    from craftsfl.rounds.operator import superlink_of
    from server.settings import load_consortium

    consortium = load_consortium(settings_file)
    link = superlink_of(consortium)
    keep_files_private(link.folder, consortium.state)
    logs = link.folder / "logs"
    if only != "superexec":
        claim_port(link.host, link.port)
    link.write_profile()
    commands = {
        "superlink": link.superlink(logs / "superlink.log"),
        "superexec": link.superexec(logs / "superexec.log"),
    }
    chosen = [command for name, command in commands.items() if only in (None, name)]
    _say(f"Serving the coordinator on {link.address}. Logs: {logs}. Ctrl-C ends it.")
    _say("Only /v1/fleet/* may be reachable from outside: put a reverse proxy in front of it.")
    with ended_by_signals(), Supervisor() as supervisor:
        keep_running(chosen, supervisor, lambda: None)


class _Console:
    """Prints a line when a site's state changes in a way that a person cares about."""

    def __init__(self, site: str) -> None:
        self._site = site
        self._last = AgentState()

    def show(self, state: AgentState) -> None:
        """Print what changed since the last call."""
        last, self._last = self._last, state
        if state == last:
            return
        where = f"round {state.round}, " if state.round else ""
        share = f", {state.done} of {state.total} quarters" if state.total else ""
        _say(f"{self._site}: {where}{state.phase or 'no agent'}{share}.")


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, markup=False)

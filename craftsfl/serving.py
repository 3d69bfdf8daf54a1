"""`site serve` and `rounds serve`: long-running processes under one supervisor.

A process that dies is started again after a pause, the pause doubling while it keeps dying. One
that refuses its settings (exit status 1 or 2 before it ever served) ends the command with its
words: a restart would not help.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from craftsfl.agent_watch import AgentState, AgentWatch
from craftsfl.flower.commands import SuperNode, environment
from craftsfl.processes import Command, Running, Supervisor, claim_port, ended_by_signals
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


def serve_site(settings_file: Path, *, supernode_only: bool = False) -> None:
    """Run a hospital's agent and SuperNode (or the SuperNode alone) until interrupted."""
    from client.settings import load_site

    site = load_site(settings_file)
    if site.supernode is None:
        raise ConfigError(
            f"{settings_file} has no [supernode] table.",
            "Add it, or run the agent alone: craftsfl site serve FILE --only agent",
        )
    logs = site.agent.state / "logs"
    supernode = SuperNode(
        name=site.name,
        superlink=site.supernode.superlink,
        authority=site.supernode.root_certificates,
        key=site.supernode.key,
        agent_socket=site.socket_path(),
        home=site.supernode.flwr_home,
        port=claim_port("127.0.0.1", None),
    )
    if supernode_only:
        logs = site.supernode.flwr_home / "logs"
    commands = [supernode.command(logs / "supernode.log")]
    if not supernode_only:
        commands.insert(0, agent_command(settings_file, site.name, logs / "agent.log"))
    console = _Console(site.name)
    watch = AgentWatch(site.socket_path())
    _say(f"Serving {site.name}. Logs: {logs}. Ctrl-C ends it.")
    with ended_by_signals(), Supervisor() as supervisor:
        try:
            keep_running(commands, supervisor, lambda: console.show(watch.state))
        finally:
            watch.close()


def agent_command(
    settings_file: Path, name: str, log: Path, *, threads: int | None = None
) -> Command:
    """The site agent: no Flower home, no network. `threads` bounds torch's (None: all cores)."""
    argv = (sys.executable, "-m", "client.agent", "--site", str(settings_file.resolve()))
    limits = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    return Command(f"{name} agent", argv, environment(Path("/nonexistent"), limits), log)


def serve_consortium(settings_file: Path, *, only: str | None = None) -> None:
    """Run SuperLink and SuperExec (or one of them) until interrupted."""
    from craftsfl.operator import superlink_of
    from server.settings import load_consortium

    link = superlink_of(load_consortium(settings_file))
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

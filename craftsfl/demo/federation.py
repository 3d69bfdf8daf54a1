"""The demo's federation: all processes of a consortium on one machine, from start to end."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from client.settings import load_site
from craftsfl.demo.attack import attack_hospitals, show_attacks
from craftsfl.demo.page.live import LivePage
from craftsfl.demo.stopwatch import Stopwatch
from craftsfl.demo.tiles import TileMaker
from craftsfl.demo.workspace import (
    Hospital,
    Workspace,
)
from craftsfl.processes.agent_command import agent_command
from craftsfl.processes.agent_watch import AgentWatch
from craftsfl.processes.gateway_command import gateway_commands, make_runtime_secret
from craftsfl.processes.supervisor import (
    Command,
    StartedProcess,
    Supervisor,
    port_open,
    wait_until,
)
from craftsfl.rounds.keeper import Keeper
from craftsfl.rounds.operator import keeper_of, register_site, start_run, superlink_of
from craftsfl.rounds.run_display import RunDisplay
from craftsfl.rounds.timeline import RoundTiming
from craftsfl.rounds.transport import installed_bundle
from craftsfl.terminal import output, progress
from privacy.errors import CraftsflError, FederationError
from server.settings import ConsortiumSettings, load_consortium

SUPERLINK_SECONDS = 60.0
_POLL_SECONDS = 0.25


def federate(
    workspace: Workspace, maker: TileMaker | None, stopwatch: Stopwatch, page: LivePage
) -> tuple[Mapping[str, object], Sequence[RoundTiming]]:
    """Serve everything and run the study; returns result.json and the rounds' times."""
    consortium = load_consortium(workspace.consortium)
    agents = {hospital.name: AgentWatch(hospital.socket) for hospital in workspace.hospitals}
    try:
        with (
            Supervisor() as supervisor,
            RunDisplay(consortium.events_file(), agents, stopwatch.began) as display,
            contextlib.ExitStack() as stack,
        ):
            with stopwatch.phase("start"):
                essential = _serve(workspace, maker, supervisor, display)
            with stopwatch.phase("federation"):
                keeper = keeper_of(workspace.consortium, workspace.logs)
                stack.callback(keeper.close)
                _follow(display, supervisor, essential, keeper, page)
            if workspace.study.pools_noise:
                with stopwatch.phase("attacks"):
                    _attack(workspace, consortium, page)
            if display.first_training is not None:
                stopwatch.seconds["first training step after"] = display.first_training
    finally:
        for watch in agents.values():
            watch.close()
    result: dict[str, object] = json.loads(consortium.result_file().read_text("utf-8"))
    return result, display.timeline.rounds


def _attack(workspace: Workspace, consortium: ConsortiumSettings, page: LivePage) -> None:
    """Let the coordinator turn hostile; that it fails to begin is no failure of the run."""
    page.say("The coordinator turns hostile")
    try:
        attacks = attack_hospitals(workspace, consortium, run=1)
    except CraftsflError as error:
        progress().print(f"The attacks could not be tried: {error}", markup=False)
        return
    page.attacked(attacks)
    show_attacks(attacks, output())


def _serve(
    workspace: Workspace, maker: TileMaker | None, supervisor: Supervisor, display: RunDisplay
) -> list[StartedProcess]:
    """Start all processes and the run; returns those that no run can do without."""
    link = superlink_of(load_consortium(workspace.consortium))
    link.prepare()
    display.say("starting the coordinator (SuperLink, SuperExec)")
    essential = [supervisor.start(link.superlink(workspace.logs / "superlink.log"))]
    if maker is not None:
        display.say("making the hospitals' synthetic tiles")
        maker.wait(display.refresh)
    display.say("starting the hospitals: a site agent and a gateway each")
    # The hospitals share this machine: threads that compete for cores cost a factor of ten.
    threads = max(1, (os.cpu_count() or 1) // len(workspace.hospitals))
    for hospital in workspace.hospitals:
        log = workspace.logs / f"{hospital.name}-agent.log"
        site = load_site(hospital.settings)
        agent = agent_command(hospital.settings, site, log, one_user=True, threads=threads)
        supervisor.start(agent)
    installed_bundle()  # made while the others start
    wait_until(
        lambda: port_open(link.host, link.port),
        what="The SuperLink",
        supervisor=supervisor,
        timeout=SUPERLINK_SECONDS,
        tick=display.refresh,
    )
    essential.append(supervisor.start(link.superexec(workspace.logs / "superexec.log")))
    with ThreadPoolExecutor() as pool:
        keys = [hospital.key.with_suffix(".pub") for hospital in workspace.hospitals]
        list(pool.map(lambda key: register_site(workspace.consortium, key), keys))
    for hospital in workspace.hospitals:
        for command in _gateway(hospital, workspace.logs):
            supervisor.start(command)
    display.say("the run begins while the hospitals load model and data")
    start_run(workspace.consortium)
    return essential


def _gateway(hospital: Hospital, logs: Path) -> list[Command]:
    site = load_site(hospital.settings)
    if site.gateway is not None and site.gateway.kind == "supernode":
        site.gateway.home.mkdir(exist_ok=True)
        make_runtime_secret(site.gateway.home)
    return gateway_commands(site, logs, prefix=f"{hospital.name}-")


def _follow(
    display: RunDisplay,
    supervisor: Supervisor,
    essential: Sequence[StartedProcess],
    keeper: Keeper,
    page: LivePage,
) -> None:
    """Wait for the run to end. A hospital may drop out; the coordinator may not."""
    known: list[StartedProcess] = []
    while display.finished is None:
        display.refresh()
        page.refresh()
        keeper.tick()
        if display.failed is not None:
            raise FederationError(
                display.failed.reason, display.failed.hint, id=display.failed.error
            )
        for running in supervisor.dead():
            if running in essential:
                supervisor.check()
            if running not in known:
                known.append(running)
                display.note(f"{running.name} ended with status {running.exit_code()}")
                display.note(running.log_tail())
        time.sleep(_POLL_SECONDS)

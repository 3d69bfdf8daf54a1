"""The demo from start to end: prepare, serve everything, run the study, report."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.console import Console

from client.settings import load_site
from craftsfl.demo.attack import attack_hospitals, show_attacks
from craftsfl.demo.carried import carry_over
from craftsfl.demo.hospitals import real_members, synthetic_members
from craftsfl.demo.page.live import LivePage
from craftsfl.demo.page.opening import live_page, open_in_browser
from craftsfl.demo.report import (
    DemoOutcome,
    next_command,
    show_outcome,
    site_results,
    verdict_of,
    write_summary,
)
from craftsfl.demo.tiles import TileMaker
from craftsfl.demo.workspace import (
    LOGS,
    DemoOptions,
    Hospital,
    Workspace,
    check_ours,
    clear_folder,
    slot_needed,
    write_workspace,
)
from craftsfl.processes.agent_command import agent_command
from craftsfl.processes.agent_watch import AgentWatch
from craftsfl.processes.environment import keep_files_private
from craftsfl.processes.gateway_command import gateway_commands, make_runtime_secret
from craftsfl.processes.supervisor import (
    Command,
    StartedProcess,
    Supervisor,
    claim_port,
    ended_by_signals,
    port_open,
    wait_until,
)
from craftsfl.rounds.keeper import Keeper
from craftsfl.rounds.operator import keeper_of, register_site, start_run, superlink_of
from craftsfl.rounds.run_display import RunDisplay
from craftsfl.rounds.timeline import RoundTiming
from craftsfl.rounds.transport import installed_bundle
from craftsfl.terminal import output, progress
from model.cache import install_base, shipped_base
from model.origin import origin_of
from privacy.errors import CraftsflError, FederationError, ModelError
from server.settings import ConsortiumSettings, load_consortium

if TYPE_CHECKING:
    from craftsfl.demo.learning import Comparison

NO_AIRLOCK = (
    "ONE USER, NO AIRLOCK: in this demo, agents and gateways of all hospitals run as you, so "
    "nothing keeps whoever takes over a gateway away from tiles and keys. A hospital runs them as "
    "two users: docs/hospital.md."
)
SUPERLINK_SECONDS = 60.0
_POLL_SECONDS = 0.25


class Stopwatch:
    """Seconds of each phase, by name and in order; `began`: when the command started."""

    def __init__(self) -> None:
        self.began = time.monotonic() - (time.time() - psutil.Process().create_time())
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - start


def run_demo(options: DemoOptions) -> DemoOutcome:
    """Run the whole demo. However it ends, nothing that it started survives it.

    Raises `CraftsflError` with what to do next, and KeyboardInterrupt once everything has ended.
    """
    stopwatch = Stopwatch()
    console = output()
    keep_files_private()
    console.print(f"[bold yellow]{NO_AIRLOCK}[/]", highlight=False)
    with ended_by_signals(), contextlib.ExitStack() as stack:
        with stopwatch.phase("prepare"):
            workspace, maker = _prepare(options, stack)
        page = live_page(
            workspace,
            load_consortium(workspace.consortium),
            stopwatch.began,
            synthetic=maker is not None,
        )
        stack.callback(page.close)
        _show(page, options, console)
        result, rounds = _federate(workspace, maker, stopwatch, page)
        outcome = _outcome(workspace, result, rounds, stopwatch)
        write_summary(workspace.folder, outcome)  # before anything that may be interrupted
        if maker is not None and options.compare:
            with stopwatch.phase("comparison"):
                outcome = replace(outcome, learning=_compare(workspace, outcome.adapter))
    stopwatch.seconds["total"] = time.monotonic() - stopwatch.began
    write_summary(workspace.folder, outcome)
    page.finish(verdict_of(outcome), next_command(workspace))
    show_outcome(workspace, outcome, console)
    return outcome


def _show(page: LivePage, options: DemoOptions, console: Console) -> None:
    file = page.write()
    console.print(f"What happens, in pictures: {file.as_uri()}", soft_wrap=True, markup=False)
    if options.browser:
        open_in_browser(file)


def _outcome(
    workspace: Workspace,
    result: Mapping[str, object],
    rounds: Sequence[RoundTiming],
    stopwatch: Stopwatch,
) -> DemoOutcome:
    """What is known when the federation has ended."""
    return DemoOutcome(
        sites=site_results(result),
        adapter=Path(str(result["adapter"])),
        samples=Path(str(result["samples"])),
        mlflow=str(result["mlflow"]),
        seconds=stopwatch.seconds,
        parameters=int(str(result["parameters"])),
        whole_study=origin_of(workspace.study, run=0).epsilon,
        rounds=rounds,
    )


def _prepare(
    options: DemoOptions, stack: contextlib.ExitStack
) -> tuple[Workspace, TileMaker | None]:
    """Check everything that could be wrong, then write the demo's folder; `stack` cleans up."""
    check_ours(options.folder)
    members = real_members(options.data) if options.data else None
    port = claim_port("127.0.0.1", options.port)
    digest = _install_tiny_base()
    earlier = clear_folder(options.folder)
    folder = options.folder.resolve()
    made_up = members is None
    members = members or synthetic_members(folder)
    # Before our own process competes with what is measured.
    slot = options.reply_slot or slot_needed(members, options.mode)
    maker = None
    if made_up:
        maker = TileMaker(folder, folder / LOGS)
        stack.callback(maker.close)
    workspace = write_workspace(options, members, digest, port, slot)
    stack.callback(shutil.rmtree, workspace.runtime, ignore_errors=True)
    carry_over(earlier, workspace)
    return workspace, maker


def _install_tiny_base() -> str:
    """Put the embedded base into the model cache; returns its digest."""
    folder = shipped_base()
    if folder is None:
        raise ModelError(
            "The embedded tiny base does not come with this installation.",
            "Make it: craftsfl model pretrain weights/tiny (about an hour on two cores).",
        )
    return install_base(folder)


def _compare(workspace: Workspace, adapter: Path) -> Comparison:
    from craftsfl.demo.learning import (
        compare_with_noise_off,  # imports torch and diffusers: not before the run
    )

    with progress().status("comparing with a noise-off reference") as status:
        return compare_with_noise_off(workspace, adapter, status.update)


def _federate(
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

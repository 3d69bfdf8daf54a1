"""The demo from start to end: prepare, serve everything, run the study, report."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from craftsfl.demo.carried import carry_over
from craftsfl.demo.federation import federate
from craftsfl.demo.figures import PublicFigure
from craftsfl.demo.hospitals import real_members, synthetic_members
from craftsfl.demo.learning import Compared, Learning, compared_with, learning_of
from craftsfl.demo.page.live import LivePage
from craftsfl.demo.page.opening import live_page, open_in_browser
from craftsfl.demo.report import (
    DemoOutcome,
    next_command,
    reference_lines,
    show_outcome,
    site_results,
    verdict_of,
    write_summary,
)
from craftsfl.demo.stopwatch import Stopwatch
from craftsfl.demo.tiles import TileMaker
from craftsfl.demo.workspace import (
    LOGS,
    DemoOptions,
    Workspace,
    check_ours,
    clear_folder,
    slot_needed,
    write_workspace,
)
from craftsfl.processes.environment import keep_files_private
from craftsfl.processes.supervisor import (
    claim_port,
    ended_by_signals,
)
from craftsfl.rounds.run_display import EventTail, ShownRun
from craftsfl.rounds.timeline import RoundTiming
from craftsfl.terminal import output, progress
from model.cache import install_base, shipped_base
from model.origin import origin_of
from privacy.errors import ConfigError, ModelError
from server.settings import load_consortium

NO_AIRLOCK = (
    "ONE USER, NO AIRLOCK: in this demo, agents and gateways of all hospitals run as you, so "
    "nothing keeps whoever takes over a gateway away from tiles and keys. A hospital runs them as "
    "two users: docs/hospital.md."
)


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
        compared = compared_with(workspace.study) if maker is not None else None
        page = live_page(
            workspace,
            load_consortium(workspace.consortium),
            stopwatch.began,
            synthetic=maker is not None,
            compared=compared,
        )
        stack.callback(page.close)
        _show(page, options, console)
        result, rounds = federate(workspace, maker, stopwatch, page)
        outcome = _outcome(workspace, result, rounds, stopwatch)
        if compared is not None:
            outcome = replace(outcome, learning=_learning(workspace, compared))
        write_summary(workspace.folder, outcome)  # before anything that may be interrupted
        with stopwatch.phase("audit"):
            # Here: at the start, everybody lacks cores, and nobody needs an auditor yet.
            from craftsfl.demo.audited import bundle_of

            outcome = replace(outcome, bundle=bundle_of(workspace))
        if options.noise_off and outcome.learning is not None:
            with stopwatch.phase("noise-off reference"):
                found = replace(outcome.learning, noise_off=_noise_off(workspace))
                outcome = replace(outcome, learning=found)
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
    port = claim_port("127.0.0.1", options.port, "--port")
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


def _learning(workspace: Workspace, compared: Compared) -> Learning | None:
    """What the coordinator's own figures say of the run."""
    first = ShownRun(1, started=0.0)
    events = EventTail(load_consortium(workspace.consortium).events_file(), first)
    return learning_of((logged.event for logged in events.read()), workspace.study, compared)


def _noise_off(workspace: Workspace) -> PublicFigure:
    # Imports torch and diffusers: not before the run.
    from craftsfl.demo.noise_off import noise_off_figure

    with progress().status("comparing with a noise-off reference") as status:
        return noise_off_figure(workspace, status.update)


def measure_once(folder: Path, file: Path) -> None:
    """Measure the reference arms in `folder` and write `file`; raises `CraftsflError`."""
    keep_files_private()
    check_ours(folder)
    if not file.resolve().parent.is_dir():
        raise ConfigError(f"{file.parent} is not a folder.", "Name a file in a folder that exists.")
    if file.is_dir():
        raise ConfigError(f"{file} is a folder.", "Name a file in it, such as references.json.")
    digest = _install_tiny_base()
    from craftsfl.demo.measuring import measure_references

    with progress().status("measuring") as status:
        found = measure_references(folder, file, digest, status.update)
    for line in reference_lines(found):
        output().print(line, highlight=False, markup=False)
    output().print(f"Written: {file}", soft_wrap=True, highlight=False, markup=False)

"""`craftsfl rounds watch` and `status`: a run as it goes on, and how it stands."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from craftsfl.privacy_words import epsilon_text
from craftsfl.rounds.condition import RunCondition, RunsLife, condition_of
from craftsfl.rounds.quality_text import quality_cell, quality_text
from craftsfl.rounds.run_display import RunDisplay, ShownRun
from craftsfl.rounds.status_picture import (
    UNFILLED,
    dropped_text,
    failed_lines,
    figures_text,
    picture_lines,
)
from craftsfl.terminal import output
from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from server.life import is_held
from server.settings import ConsortiumSettings, load_consortium
from server.status import RunStatus, SiteStatus
from server.status_reader import read_status
from server.tables import ENDED, AttemptState, RunState

_POLL_SECONDS = 0.5
_WIDEST = 120  # columns of the picture, in a pipe too
_STARTING_SECONDS = 60.0


def watch_run(settings: Path, run: int | None = None) -> RunStatus:
    """Show `run`, or the newest one, from its beginning until it ends, however it ends.

    Raises `FederationError` if it failed, was stopped, or if no ServerApp ever took it up.
    """
    consortium = load_consortium(settings)
    url = consortium.database_url()
    status = read_status(url, run)
    shown = ShownRun(status.run, status.started)
    with RunDisplay(consortium.events_file(), run=shown) as display:
        while True:
            display.refresh()
            status = read_status(url, shown.number)
            if status.state in ENDED:
                break
            condition = condition_of(consortium, status)
            _check_begun(consortium, status, condition)
            if condition.condition is RunCondition.INTERRUPTED or condition.stuck:
                display.say(condition.words)
            time.sleep(_POLL_SECONDS)
        display.refresh()
    if status.state is RunState.FAILED:
        raise _failed(status)
    if status.state is RunState.STOPPED:
        raise FederationError(
            f"Run {status.run} was stopped after {status.rounds_done} of {status.rounds} "
            f"{status.unit}s.",
            "Its finished rounds' adapters are kept. Start the next run: craftsfl rounds "
            "start consortium.toml",
            id=ErrorId.RUN_STOPPED,
        )
    return status


def _check_begun(consortium: ConsortiumSettings, status: RunStatus, now: RunsLife) -> None:
    if now.condition is not RunCondition.INTERRUPTED or status.history or status.last_words:
        return
    if time.time() - status.started < _STARTING_SECONDS or is_held(consortium.keeper_file()):
        return
    raise FederationError(
        f"Run {status.run} did not begin within {_STARTING_SECONDS:.0f} s.",
        "Is the SuperExec running? See its log: craftsfl rounds serve. The run stays open: "
        "craftsfl rounds stop consortium.toml ends it.",
        id=ErrorId.RUN_NOT_BEGUN,
    )


def _failed(status: RunStatus) -> FederationError:
    """The failure that the run recorded, with its next step and id."""
    failure = status.failure
    if failure is None:  # under an older coordinator, which kept a single text
        return FederationError(f"Run {status.run} failed: {status.message}", id=ErrorId.RUN_FAILED)
    return FederationError(
        f"Run {status.run} failed: {failure.message}", failure.hint, id=failure.error
    )


def show_status(settings: Path, run: int | None, *, as_json: bool, every: bool = False) -> None:
    """Print how a run stands, as a picture or JSON; with `every` attempt as a table too."""
    consortium = load_consortium(settings)
    status = read_status(consortium.database_url(), run)
    now = condition_of(consortium, status)
    if as_json:
        print(json.dumps(asdict(status) | asdict(now), allow_nan=True))  # noqa: T201 - the output
        return
    console = output()
    console.print(
        f"[bold]{status.study}[/] run {status.run}: {now.condition}, "
        f"{status.unit} {status.rounds_done} of {status.rounds}{_lost(status)}. "
        f"{escape(now.words)}"
    )
    if status.confirmed is not None:
        of = f"{len(status.confirmed)} of {len(status.sites)} sites"
        console.print(f"{of} have worked out the same adapter themselves.", highlight=False)
    console.print(_sites(status))
    plain = console.options.ascii_only
    for line in picture_lines(status, min(console.width, _WIDEST), plain=plain):
        console.print(line)
    for words in (figures_text(status), *failed_lines(status)):
        if words:
            console.print(words, highlight=False, markup=False)
    if every:
        console.print(_history(status))
    newest = max((figure.round for figure in status.quality), default=0)
    for figure in status.quality:
        if figure.round in (0, newest):
            console.print(quality_text(figure, status.unit), highlight=False)


def _lost(status: RunStatus) -> str:
    if status.spare is None:
        return ""
    return f", {status.lost} of {status.spare} spare attempts lost"


def _sites(status: RunStatus) -> Table:
    steps = f"{status.unit}s"
    table = Table("site", "declared patients", "state", steps, "ε used", "of budget", "masked")
    for site in status.sites:
        state = f"{site.state}: {site.reason}" if site.reason else site.state
        table.add_row(
            site.name,
            str(site.declared_patients or UNFILLED),
            escape(state),
            str(site.rounds),
            *_told(site),
        )
    return table


def _told(site: SiteStatus) -> tuple[str, ...]:
    """What the site says of itself, once it has said it; its budget is never 0."""
    if site.budget == 0:
        return (UNFILLED,) * 3
    masked = "yes" if site.masked else "no"
    return epsilon_text(site.epsilon), epsilon_text(site.budget), masked


def _history(status: RunStatus) -> Table:
    table = Table(status.unit, "attempt", "state", "updates", "seconds", "dropped out")
    if status.quality:
        table.add_column("public tiles, against the base")
    for item in status.history:
        dropped = [dropped_text(site) for site in item.sites if site.reason]
        state = f"{item.state}: {item.reason}" if item.reason else item.state
        ended = item.state is AttemptState.FINISHED
        measured = [(quality_cell(status.quality, item.round) if ended else "") or UNFILLED]
        table.add_row(
            str(item.round),
            str(item.attempt),
            escape(state),
            str(item.updates),
            f"{item.seconds:.0f}" if item.seconds is not None else UNFILLED,
            escape(", ".join(dropped)) or UNFILLED,
            *(measured if status.quality else []),
        )
    return table

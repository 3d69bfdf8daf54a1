"""`craftsfl site status`: a dozen lines, or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from rich.text import Text

from client.agent.requests import Recorded
from client.agent.wishes import SiteWish
from craftsfl.privacy_words import epsilon_text
from craftsfl.site.budget.table import bar
from craftsfl.site.desk.standing import (
    SiteStanding,
    at_roots_desk,
    reason_words,
    standing_of,
    when,
)
from craftsfl.terminal import output
from privacy.visible import visible


def show_site_status(site_toml: Path, *, as_json: bool) -> None:
    """Print how the site stands."""
    site_toml, heard = at_roots_desk(site_toml)
    found = standing_of(site_toml, heard=heard)
    console = output()
    if as_json:
        console.print_json(json.dumps(status_values(found)), highlight=False)
        return
    for line in status_lines(found):
        console.print(line, highlight=False)


def status_lines(found: SiteStanding) -> Iterator[Text]:
    """What a person reads."""
    yield Text.assemble((found.site, "bold"), f": {found.study}. ", agent_words(found))
    if found.wish is not SiteWish.RUN:
        yield Text(f"{found.wish.words} To take part again: craftsfl site resume site.toml.")
    yield from _budget(found)
    yield Text.assemble(("Coordinator: ", "bold"), visible(found.connection))
    yield from _refusals(found)
    for note in found.notes:
        yield Text(f"Look: {visible(note)}", style="yellow")


def agent_words(found: SiteStanding) -> str:
    """What the agent is doing, or that there is none."""
    if not found.alive:
        return (
            "No agent runs here. Start it: craftsfl site serve site.toml. If it should be running, "
            "its log says why it ended: logs/agent.log in the state folder, or the service's own."
        )
    now = found.now
    if not now.phase:
        return (
            "The agent runs, and does not answer on its socket: it may be starting, or run as "
            "another user than this command."
        )
    place = f", {found.unit} {now.round} of {found.rounds}" if now.round else ""
    share = f", {now.done} of {now.total} quarters" if now.total else ""
    return f"The agent runs: {now.phase}{place}{share}."


def _budget(found: SiteStanding) -> Iterator[Text]:
    line = found.budget
    if line is None:
        return
    left = attempts_text(line.rounds_left)
    yield Text.assemble(
        ("Budget: ", "bold"),
        bar(line.epsilon, line.budget),
        f" epsilon {epsilon_text(line.epsilon)} of {line.budget:g} used; {line.attempts} of "
        f"{attempts_text(found.most)} charged, {left} left.",
    )


def attempts_text(count: int) -> str:
    """ "1 attempt", "12 attempts"."""
    return f"{count} attempt{'' if count == 1 else 's'}"


def _refusals(found: SiteStanding) -> Iterator[Text]:
    if not found.refused:
        return
    yield Text("Refused last:", style="bold")
    for record in found.refused:
        request = record.request
        place = f"run {request.run}"
        if request.round:
            place += f", {found.unit} {request.round}, attempt {request.attempt}"
        yield Text(f"  {when(request.time)}  {place}: {reason_words(request.reason)}")


def status_values(found: SiteStanding) -> dict[str, object]:
    """What `--json` prints; an infinite epsilon is null."""
    line = found.budget
    return {
        "site": found.site,
        "study": found.study,
        "agent": found.alive,
        "phase": found.now.phase or None,
        "round": found.now.round or None,
        "rounds": found.rounds,
        "wish": str(found.wish),
        "budget": None
        if line is None
        else {
            "epsilon_used": line.epsilon if math.isfinite(line.epsilon) else None,
            "budget": line.budget,
            "attempts_charged": line.attempts,
            "attempts_left": line.rounds_left,
            "attempts_of_study": found.most,
        },
        "connection": found.connection,
        "refused": [_record(record) for record in found.refused],
        "notes": list(found.notes),
    }


def _record(record: Recorded) -> dict[str, object]:
    request = record.request
    return {
        "time": request.time,
        "run": request.run,
        "round": request.round,
        "attempt": request.attempt,
        "reason": request.reason,
    }

"""The live picture of a run: who trains, round k of n, seconds left.

It reads the coordinator's public events and, when running at a site (as in the demo), the site
agents' own progress.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from client.agent.progress import TRAINING
from craftsfl.processes.agent_watch import AgentWatch
from craftsfl.rounds.quality_text import quality_text
from craftsfl.rounds.timeline import Timeline
from craftsfl.terminal import progress
from server.event_lines import LoggedEvent, decode_event
from server.events import (
    ROUND,
    AdapterConfirmed,
    ExchangeFinished,
    NodeRefused,
    QualityMeasured,
    RoundFailed,
    RoundFinished,
    RoundStarted,
    RunBroken,
    RunEnded,
    RunEvent,
    RunFailed,
    RunFinished,
    RunGoesOn,
    RunPaused,
    RunStarted,
    RunWaiting,
    SessionOpened,
    SiteDropped,
    SiteFinished,
    SiteJoined,
    SiteLeftOut,
    SiteMissing,
    SiteRefused,
    SiteStarted,
)

_BAR_CELLS = 20
_REFRESH_PER_SECOND = 4


@dataclass(frozen=True, slots=True)
class ShownRun:
    """The run to show: its number, and when it began (Unix seconds)."""

    number: int
    started: float


class EventTail:
    """Events added to `events.jsonl`: from now on, or, of one run, since it began."""

    def __init__(self, file: Path, run: ShownRun | None = None) -> None:
        self._file = file
        self._run = run
        self._offset = file.stat().st_size if file.exists() and run is None else 0

    def read(self) -> list[LoggedEvent]:
        """The events since the last call; an unfinished last line waits for the next call.

        Skips other runs' events and those that only a newer version knows. Raises `WireError`.
        """
        if not self._file.exists():
            return []
        with self._file.open("rb") as stream:
            stream.seek(self._offset)
            data = stream.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        events = [decode_event(line) for line in complete.splitlines() if line.strip()]
        return [event for event in events if event is not None and self._shown(event)]

    def _shown(self, event: LoggedEvent) -> bool:
        run = self._run
        # Another study may have had a run of this number before.
        return run is None or (event.run == str(run.number) and event.time >= run.started - 1.0)


class RunDisplay:
    """A live table, or plain lines if the output is not a terminal. A context manager."""

    def __init__(
        self,
        events: Path,
        agents: Mapping[str, AgentWatch] | None = None,
        since: float | None = None,
        run: ShownRun | None = None,
    ) -> None:
        """`since`: the monotonic time that counts as 0 s; that of the `run`, if one is given."""
        self._tail = EventTail(events, run)
        if run is not None:
            since = time.monotonic() - (time.time() - run.started)
        self._agents = agents or {}
        self._console = progress()
        self._since = time.monotonic() if since is None else since
        self._round_seconds: list[float] = []
        self._round_began: float | None = None
        self._round = self._rounds = 0
        self._unit = ROUND
        self._sites: dict[str, str] = dict.fromkeys(self._agents, "starting")
        self._phase = "starting"
        self._at: float | None = None  # the time of the event that is being taken in
        self.finished: RunFinished | None = None
        self.failed: RunFailed | None = None
        self.first_training: float | None = None
        self.timeline = Timeline()
        self._live = Live(
            console=self._console, refresh_per_second=_REFRESH_PER_SECOND, transient=True
        )

    def __enter__(self) -> RunDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def say(self, phase: str) -> None:
        """Say what is being done now, before and after the rounds."""
        if phase != self._phase:
            self._phase = phase
            self.note(phase)

    def refresh(self) -> None:
        """Take in new events and redraw."""
        for site, watch in self._agents.items():
            state = watch.state
            self.timeline.see_agent(site, state)
            if self.first_training is None and state.phase == TRAINING:
                self.first_training = time.monotonic() - self._since
        for logged in self._tail.read():
            self.timeline.see_event(logged)
            self._at = time.monotonic() - (time.time() - logged.time)
            self._take(logged.event)
        self._at = None
        if self._live.is_started:
            self._live.update(self._picture())

    def _take(self, event: RunEvent) -> None:
        match event:
            case RunFinished():
                self.finished = event
            case RunFailed():
                self.failed = event
            case QualityMeasured():
                self.note(quality_text(event, self._unit))
            case SessionOpened(session=session, reason=reason, sites=sites):
                self.note(f"session {session} of {', '.join(sites)}: {reason}")
            case AdapterConfirmed(sites=sites, of=of, others=others):
                self.note(f"{len(sites)} of {of} sites have worked out the same adapter")
                for other in others:
                    self.note(f"not confirmed by {other}")
            case NodeRefused(node=node, reason=reason):
                self.note(f"node {node} is refused: {reason}")
            case RoundStarted() | RoundFinished() | RoundFailed() | ExchangeFinished():
                self._take_round(event)
            case RunWaiting() | RunGoesOn() | RunPaused() | RunBroken() | RunStarted() | RunEnded():
                self._take_life(event)
            case _:
                self._take_site(event)

    def _take_life(self, event: RunEvent) -> None:
        match event:
            case RunStarted(resumed=True):
                self.say("a new ServerApp goes on with the run")
            case RunWaiting(reason=reason):
                self.say(f"waiting for {reason}")
            case RunGoesOn():
                self.say("going on")
            case RunPaused():
                self.say("paused")
            case RunEnded():
                self.say(f"stopped after {event.rounds_done} {self._unit}s")
            case RunBroken(reason=reason):
                self.say(f"the ServerApp has ended: {reason}")

    def _take_round(
        self, event: RoundStarted | RoundFinished | RoundFailed | ExchangeFinished
    ) -> None:
        match event:
            case RoundStarted():
                self._round, self._rounds, self._unit = event.round, event.rounds, event.unit
                self._round_began = self._now()
                self.say(f"{event.unit} {event.round} of {event.rounds}")
            case RoundFinished(seconds=seconds):
                took = seconds or 0.0
                self._round_seconds.append(took)
                self.note(
                    f"{event.unit} {event.round} of {event.rounds} done: {event.updates} updates, "
                    f"{took:.0f} s{self._left_text()}"
                )
            case RoundFailed():
                self.note(f"{event.unit} {event.round} failed: {event.reason}")
            case ExchangeFinished(exchange="masked input"):
                self._phase = f"round {event.round} of {event.rounds}, unmasking the sum"

    def _take_site(self, event: RunEvent) -> None:
        match event:
            case SiteJoined(site=site):
                self._sites[site] = "joined"
                self.note(f"{site} joined")
            case SiteStarted(site=site):
                self._sites[site] = "training"
            case SiteFinished(site=site):
                self._sites[site] = "update sent"
            case SiteMissing() | SiteRefused() | SiteDropped() | SiteLeftOut():
                self._sites[event.site] = "out"
                self.note(f"{event.site} {_how(event)}: {event.reason}")

    def note(self, text: str) -> None:
        """Print a line that stays."""
        elapsed = self._now() - self._since
        self._console.print(f"[{elapsed:5.1f} s] {text}", highlight=False, markup=False)

    def _now(self) -> float:
        return time.monotonic() if self._at is None else self._at

    def seconds_left(self) -> float | None:
        """An estimate from the rounds so far; None until the first has ended."""
        if not self._round_seconds or self._round_began is None:
            return None
        mean = sum(self._round_seconds) / len(self._round_seconds)
        left = mean * (self._rounds - len(self._round_seconds))
        if self._round > len(self._round_seconds):
            left -= min(mean, time.monotonic() - self._round_began)
        return max(0.0, left)

    def _left_text(self) -> str:
        left = self.seconds_left()
        return "" if left is None else f", about {left:.0f} s left"

    def _picture(self) -> RenderableType:
        head = f"{self._phase}  ·  {time.monotonic() - self._since:.0f} s{self._left_text()}"
        table = Table("site", "now", "")
        for site, state in self._sites.items():
            table.add_row(site, *self._row(site, state))
        return Group(Text(head, style="bold"), table)

    def _row(self, site: str, state: str) -> tuple[str, str]:
        watch = self._agents.get(site)
        if watch is None:
            return state, ""
        now = watch.state
        if state == "out" or not now.phase:
            return state, ""
        if not now.total:
            return (state if now.ready else now.phase), ""
        filled = round(_BAR_CELLS * now.done / now.total)
        bar = "█" * filled + "░" * (_BAR_CELLS - filled)
        what = f"{now.phase}, {self._unit} {now.round}" if now.round else now.phase
        return what, f"{bar} {now.done}/{now.total}"


def _how(event: SiteMissing | SiteRefused | SiteDropped | SiteLeftOut) -> str:
    """How a site is out: missing, refused, left out, or dropped at an exchange."""
    how = event.name.removeprefix("site-")
    if not isinstance(event, SiteDropped):
        return how
    if event.exchange:
        how += f" at the exchange {event.exchange!r}"
    return f"{how}, its update is in the sum" if event.in_sum else how

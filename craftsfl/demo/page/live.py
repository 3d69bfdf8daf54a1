"""The page of a run under way: from events, quality figures and the coordinator's own store.

Looked at a few times a second; written at most every other second, and never able to disturb a run:
what cannot be drawn is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from craftsfl.demo.learning import LOSS, OBEDIENCE
from craftsfl.demo.page.facts import (
    AttackTried,
    Change,
    Curve,
    DeskFacts,
    Gallery,
    PageFacts,
    PageState,
)
from craftsfl.demo.page.render import write_demo_page
from craftsfl.demo.page.wire import WirePictures
from craftsfl.rounds.run_display import EventTail
from privacy.errors import CraftsflError
from server.events import (
    QualityMeasured,
    RoundFinished,
    RoundStarted,
    RunEvent,
    RunFailed,
    SessionOpened,
    SiteDropped,
    SiteFinished,
    SiteJoined,
    SiteMissing,
    SiteStarted,
)
from server.quality import picture_of

PAUSE_SECONDS: Final = 2.0
_STARTING: Final = PageFacts(PageState.RUNNING, "The hospitals are starting", 0, 0, 0.0)
_COLUMNS: Final = 6  # of pictures, between the base and the real tile
_CURVES: Final = {
    LOSS: (
        "Held-out denoising loss",
        "On tiles of patients on whom nobody trained: lower is better. The band is the 95 % "
        "interval over patients.",
    ),
    OBEDIENCE: (
        "Obedience to the caption",
        "Of pictures drawn from the captions of patients on whom nobody trained, by an encoder "
        "that took no part in training: by how much each agrees better with its own caption than "
        "with another's. Higher is better.",
    ),
}


@dataclass
class LivePage:
    """Collects what the page shows and writes it into `folder`.

    `pictures` is the coordinator's folder of drawn prompts. `real` finds, for each prompt, a tile
    of a patient on whom nobody trains (below `folder`, "" for none; None: not yet). `wire` makes
    the pictures of what travelled in a run, given its name in the events. `references` are other
    ways of training, by metric and name; `compared` says where these come from.
    """

    folder: Path
    events: EventTail
    pictures: Path
    prompts: tuple[str, ...]
    real: Callable[[], tuple[str, ...] | None]
    began: float  # monotonic
    patients: Mapping[str, int]
    wire: Callable[[str], WirePictures] | None = None
    references: Mapping[str, Mapping[str, Change]] = field(default_factory=dict)
    compared: str = ""
    _wire: WirePictures | None = None
    _real: tuple[str, ...] | None = None
    _desks: dict[str, DeskFacts] = field(default_factory=dict)
    _points: dict[str, list[Change]] = field(default_factory=dict)
    _before: dict[str, float] = field(default_factory=dict)
    _drawn: list[int] = field(default_factory=list)
    _facts: PageFacts = _STARTING
    _written: float = float("-inf")

    def refresh(self) -> None:
        """Take in what is new; write the page if it is time."""
        for logged in self.events.read():
            if self._wire is None and self.wire is not None:
                self._wire = self.wire(logged.run)
            self._take(logged.event)
        if time.monotonic() - self._written >= PAUSE_SECONDS:
            with suppress(CraftsflError, OSError):  # the run does not depend on its page
                self.write()

    def say(self, note: str) -> None:
        """What is being done now, where no event tells it."""
        self._facts = replace(self._facts, note=note)

    def attacked(self, attacks: Sequence[AttackTried]) -> None:
        """What a hostile coordinator has tried."""
        self._facts = replace(self._facts, attacks=tuple(attacks))
        self.write()

    def finish(self, verdict: str, next_command: str) -> None:
        """The last page: it does not load itself again."""
        for name in self._desks:
            self._site(name, state="has finished")
        self._facts = replace(
            self._facts, state=PageState.FINISHED, verdict=verdict, next_command=next_command
        )
        self.write()

    def fail(self, why: str) -> None:
        """The run has failed; the page stays."""
        self._facts = replace(self._facts, state=PageState.FAILED, note=why)
        self.write()

    def close(self) -> None:
        """The demo has ended; a page that still waits for its run would load itself for ever."""
        if self._facts.state is PageState.RUNNING:
            self.fail("The demo was stopped before its run was over.")

    def write(self) -> Path:
        """Write the page now; returns its file."""
        self._written = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._wire is not None and (newest := self._wire.newest()) is not None:
            self._facts = replace(self._facts, wire=newest)
        self._facts = replace(
            self._facts,
            seconds=self._written - self.began,
            desks=tuple(self._desks.values()),
            curves=self._curves(),
            compared=self.compared,
            gallery=self._gallery(),
        )
        return write_demo_page(self._facts, self.folder)

    def _take(self, event: RunEvent) -> None:
        match event:
            case RoundStarted():
                note = f"All hospitals work on {event.unit} {event.round}"
                self._facts = replace(self._facts, note=note, steps=event.rounds)
            case RoundFinished():
                self._facts = replace(self._facts, step=event.round, steps=event.rounds)
            case SessionOpened():
                self.say("The hospitals have agreed on keys that the coordinator does not hold")
            case QualityMeasured():
                self._measured(event)
            case RunFailed(reason=reason):
                self.fail(reason)
            case SiteJoined():
                patients = self.patients.get(event.site, event.patients)
                self._desks[event.site] = DeskFacts(
                    event.site, patients, event.epsilon, event.budget or 0.0, "joined"
                )
            case SiteStarted():
                self._site(event.site, state="training")
            case SiteFinished():
                self._site(event.site, state="sent its masked share", epsilon=event.epsilon)
            case SiteMissing() | SiteDropped():
                self._site(event.site, state=event.reason)

    def _site(self, name: str, **changed: object) -> None:
        if name in self._desks:
            self._desks[name] = replace(self._desks[name], **changed)  # type: ignore[arg-type]

    def _measured(self, event: QualityMeasured) -> None:
        base = event.value - event.change
        self._before.setdefault(event.metric, base)
        unit = base if event.metric == LOSS and base > 0 else 1.0
        low, high = (event.change if v is None else v for v in (event.low, event.high))
        change = Change(event.round, event.change / unit, low / unit, high / unit)
        self._points.setdefault(event.metric, []).append(change)
        if event.round not in self._drawn:
            self._drawn.append(event.round)

    def _curves(self) -> tuple[Curve, ...]:
        return tuple(
            Curve(
                *_CURVES[metric],
                points=tuple(points),
                references=self.references.get(metric, {}),
                share=metric == LOSS,
                before=self._before.get(metric) if metric == OBEDIENCE else None,
            )
            for metric, points in self._points.items()
            if metric in _CURVES
        )

    def _gallery(self) -> Gallery | None:
        if not self._drawn:
            return None
        columns = {
            "the base" if number == 0 else f"step {number}": tuple(
                self._picture(number, prompt) for prompt in range(len(self.prompts))
            )
            for number in spread(self._drawn, _COLUMNS)
        }
        if self._real is None:
            self._real = self.real()
        if self._real is not None and any(self._real):
            columns["a real tile"] = self._real
        return Gallery(self.prompts, columns)

    def _picture(self, number: int, prompt: int) -> str:
        """The picture, copied beside the page; "" where there is none (any more)."""
        source = picture_of(self.pictures, number, prompt)
        target = self.folder / source.name
        if not target.exists() and source.exists():
            target.write_bytes(source.read_bytes())
        return target.name if target.exists() else ""


def spread(numbers: Sequence[int], most: int) -> list[int]:
    """At most `most` of ascending `numbers`, the first and the last of them, evenly between."""
    if len(numbers) <= most:
        return list(numbers)
    places = {round(place * (len(numbers) - 1) / (most - 1)) for place in range(most)}
    return [numbers[place] for place in sorted(places)]

"""Before an attempt: is everything there that it needs? Until it is, the run waits.

Waiting uses up no attempt, and no site is charged. What is waited for is stored, so that
`craftsfl rounds status` can say it, and is told as an event whenever it changes.
"""

# Why: docs/adr/0034-run-life.md

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from model.layout import Layout
from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from server.attendance import Attendance
from server.context import RunContext
from server.events import RunGoesOn, RunPaused, RunWaiting, SiteLeftOut
from server.life import RunStopped
from server.nodes import Attendee
from server.roll_call import RollCall
from server.tables import RunState, Wish

_MARGIN_BYTES = 64 * 2**20  # beside a round's own file: the database, events, logs
_COPIES = 8  # of an adapter in float32: it, a strategy's state in float64, and the file that grows


def check_quorum(context: RunContext, attendance: Attendance) -> None:
    """Record who is missing. Raises `FederationError` if too few sites can ever take part.

    A site that only has not come yet is waited for (`AttemptGate`).
    """
    attendance.report_missing()
    possible = len(context.study.sites) - attendance.hopeless()
    if possible < context.study.smallest_cohort:
        raise FederationError(
            too_few(possible, context.study.smallest_cohort, attendance.absentees()),
            "Fix these sites, then start a new run: craftsfl rounds start consortium.toml",
            id=ErrorId.TOO_FEW_SITES,
        )


class AttemptGate:
    """What every attempt passes before it begins."""

    def __init__(self, context: RunContext, attendance: Attendance, folder: Path) -> None:
        """`folder` is where adapters are kept."""
        self._context = context
        self._folder = folder
        self._roll = RollCall(context, attendance)
        self._told = ""

    def choose_cohort(
        self,
        round: int,
        layout: Layout,
        lacking: Callable[[list[Attendee]], str] = lambda chosen: "",
    ) -> list[Attendee]:
        """Who is asked to train in `round`, once enough sites are there.

        `lacking` says what else has to be waited for with these sites, "" if nothing.

        The masked cohorts of a round may only shrink, so that nobody can choose by whom two sums
        differ: a site that was left out once stays out of the round, and the others would refuse
        it. Raises `RunStopped`.
        """
        context = self._context
        allowed = context.store.cohort(context.study, round)
        while True:
            self._obey()
            what = self._space(layout.parameters)
            present = [] if what else self._roll.call(lambda here: self._enough(here, allowed))
            chosen = _within(present, allowed)
            if not what and not self._enough(present, allowed):
                what = self._sites(chosen, _left_out(present, chosen, round))
            what = what or lacking(chosen)
            if not what:
                break
            self._wait(what)
        self._go_on()
        for name, reason in _left_out(present, chosen, round).items():
            context.emit(SiteLeftOut(name, round, reason))
        return chosen

    def _enough(self, present: list[Attendee], allowed: frozenset[str] | None) -> bool:
        return len(_within(present, allowed)) >= self._context.study.smallest_cohort

    def _obey(self) -> None:
        """Do what the operator wants; returns once that is to run."""
        context = self._context
        wish = context.store.wish()
        if wish is Wish.PAUSE:
            context.store.awaits("")
            context.store.set_state(RunState.PAUSED)
            context.emit(RunPaused())
            self._told = "paused"
            while wish is Wish.PAUSE:
                context.clock.sleep(context.timing.wish)
                wish = context.store.wish()
        if wish in (Wish.STOP, Wish.STOP_NOW):
            raise RunStopped("The operator has stopped the run.")

    def _space(self, parameters: int) -> str:
        """What is wrong with the free space of the disk, "" if nothing is."""
        needed = _MARGIN_BYTES + 4 * _COPIES * parameters
        free = shutil.disk_usage(_existing(self._folder)).free
        if free >= needed:
            return ""
        return (
            f"free space in {self._folder}: {free / 2**20:.0f} MB are left, a round needs "
            f"{needed / 2**20:.0f} MB"
        )

    def _sites(self, present: list[Attendee], left_out: Mapping[str, str]) -> str:
        absent = {**self._roll.absent(present), **left_out}
        needed = self._context.study.smallest_cohort
        alike: dict[str, list[str]] = {}
        for name, reason in sorted(absent.items()):
            alike.setdefault(reason, []).append(name)
        reasons = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in alike.items())
        return f"{', '.join(sorted(absent))} ({len(present)} of {needed} are there). {reasons}"

    def _wait(self, what: str) -> None:
        context = self._context
        if what != self._told:
            context.store.awaits(what)
            context.store.set_state(RunState.WAITING)
            context.emit(RunWaiting(what))
            self._told = what
        context.clock.sleep(context.timing.wish)

    def _go_on(self) -> None:
        if self._told:
            self._context.store.awaits("")
            self._context.emit(RunGoesOn())
            self._told = ""
        self._context.store.set_state(RunState.RUNNING)


def too_few(have: int, needed: int, without: Mapping[str, str]) -> str:
    """Says that `have` sites are fewer than `needed`, and why each site of `without` is out."""
    reasons = " ".join(f"{name}: {reason}" for name, reason in sorted(without.items()))
    sites = "1 site" if have == 1 else f"{have} sites"
    return f"{sites} of the {needed} that are needed. {reasons}".strip()


def _within(attendees: list[Attendee], allowed: frozenset[str] | None) -> list[Attendee]:
    """Those of `attendees` whose names are `allowed`; all of them while there is no list yet."""
    return [attendee for attendee in attendees if allowed is None or attendee.name in allowed]


def _left_out(present: list[Attendee], chosen: list[Attendee], round: int) -> dict[str, str]:
    """Who is there and may not take part in this round, with the reason, by name."""
    reason = f"It was not in the first cohort of round {round}, which may only shrink."
    return {attendee.name: reason for attendee in present if attendee not in chosen}


def _existing(folder: Path) -> Path:
    return folder if folder.exists() or folder == folder.parent else _existing(folder.parent)
